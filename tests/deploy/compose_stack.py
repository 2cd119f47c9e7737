"""The stack of docker-compose.yml on a Docker engine: built, started, used, and without Redis.

Not collected with the other tests, for it needs an engine and minutes:

    pytest -s tests/deploy/compose_stack.py

COMPOSE_FILE may add a file that takes services away or says where images come from.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import builders
from tests.dashboards.ring import Prometheus
from tests.deploy.rendering import ROOT
from tests.service.running import sample, wait_until

pytestmark = pytest.mark.timeout(1800)

PORTS = ("DQN_PORT", "DQN_ADMIN_PORT", "DQN_PROMETHEUS_PORT", "DQN_ALERTMANAGER_PORT",
         "DQN_GRAFANA_PORT")  # fmt: skip
LEFT = [0.0, 0.0, -0.1, 0.0]


class Stack:
    """A project of its own: its containers, volumes and ports are nobody else's."""

    def __init__(self, folder: Path) -> None:
        builders.write_policy(folder / "policies", profile=builders.profile())
        self._ports = {name: _free_port() for name in PORTS}
        self._environment = {
            **os.environ,
            **{name: str(port) for name, port in self._ports.items()},
            "COMPOSE_PROJECT_NAME": f"dqn-test-{os.getpid()}",
            "DQN_POLICIES": str(folder / "policies"),
        }
        self._clients: list[httpx.Client] = []
        self.agent: httpx.Client
        self.operator: httpx.Client
        self.prometheus = Prometheus(self._client("DQN_PROMETHEUS_PORT", {}))

    def compose(self, *arguments: str) -> str:
        """One call of `docker compose`; what it says on its standard output."""
        return self._docker("compose", *arguments)

    def start(self) -> None:
        started = time.monotonic()
        self.compose("build", "--quiet")
        built = time.monotonic()
        self.compose("up", "--detach", "--wait", "--wait-timeout", "300")
        _tell(f"built in {built - started:.0f} s, up in {time.monotonic() - built:.0f} s")
        self.agent = self._client("DQN_PORT", self._key("agent"))
        self.operator = self._client("DQN_ADMIN_PORT", self._key("operator"))

    def stop(self) -> None:
        for client in self._clients:
            client.close()
        self.compose("down", "--volumes", "--timeout", "40")

    def act(self) -> dict[str, Any]:
        """One decision."""
        answer = self.agent.post("/v1/actions", json={"observations": [LEFT], "deadline_ms": 500})
        assert answer.status_code == 200, answer.text
        decision: dict[str, Any] = answer.json()
        return decision

    def report(self, decision: dict[str, Any]) -> None:
        """Its outcome."""
        outcome = {"decision_id": f"{decision['decision_id']}/0", "reward": 1.0, "terminated": True}
        answer = self.agent.post("/v1/outcomes", json={"outcomes": [outcome]})
        assert answer.status_code == 200, answer.text

    def metric(self, name: str, **labels: str) -> float:
        return sample(self.operator.get("/metrics").text, name, **labels)

    def image_sizes(self) -> dict[str, int]:
        """Megabytes of each service's image."""
        images = json.loads(self.compose("config", "--format", "json"))["services"]
        sizes = {}
        for name, service in images.items():
            inspected = self._docker("image", "inspect", "-f", "{{.Size}}", service["image"])
            sizes[name] = round(int(inspected) / 1e6)
        return sizes

    def _key(self, name: str) -> dict[str, str]:
        shown = ("run", "--rm", "--no-TTY", "--no-deps", "--entrypoint", "cat", "setup")
        key = self.compose(*shown, f"/secrets/{name}.key").strip()
        return {"authorization": f"Bearer {key}"}

    def _client(self, port: str, headers: dict[str, str]) -> httpx.Client:
        url = f"http://127.0.0.1:{self._ports[port]}"
        client = httpx.Client(base_url=url, headers=headers, timeout=30.0)
        self._clients.append(client)
        return client

    def _docker(self, *arguments: str) -> str:
        done = subprocess.run(
            ["docker", *arguments],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    made = Stack(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_the_stack_comes_up_is_watched_and_answers_without_redis(stack: Stack) -> None:
    _tell(f"images, MB: {stack.image_sizes()}")
    assert stack.agent.get("/metrics").status_code == 404
    assert httpx.post(f"{stack.agent.base_url}/v1/actions", json={}).status_code == 401
    first = {"version": 1, "first": True, "why": "to serve"}
    promoted = stack.operator.post("/v1/policies/cartpole/promote", json=first)
    assert promoted.status_code == 200, promoted.text

    decision = stack.act()
    # The heuristic would say 1.
    assert decision["actions"] == [0]
    assert decision["answered_by"][0]["source"] == "model"
    stack.report(decision)
    decided = {"policy": "cartpole", "variant": "stable", "source": "model", "reason": "none"}
    assert stack.metric("dqn_decisions_total", **decided) == 1
    assert stack.metric("dqn_outcomes_total", result="accepted") == 1

    expected = [1.0, 1.0]
    wait_until(
        lambda: stack.prometheus.numbers('up{job=~"dqn|dqn-recorder"}') == expected,
        "Prometheus reaches service and recorder",
    )
    joined = 'sum(dqn_outcomes_total{job="dqn-recorder",result="joined"})'
    wait_until(lambda: stack.prometheus.numbers(joined) == [1], "the recorder joins the outcome")
    assert stack.prometheus.ask("alertmanagers")["activeAlertmanagers"]

    stack.compose("kill", "redis")
    wait_until(lambda: stack.metric("dqn_redis_up") == 0, "the service misses Redis")
    decision = stack.act()
    assert decision["answered_by"][0]["source"] == "model"
    stack.report(decision)
    assert stack.operator.get("/readyz").status_code == 200

    stack.compose("start", "redis")
    wait_until(lambda: stack.metric("dqn_redis_up") == 1, "Redis is back")
    wait_until(lambda: stack.prometheus.numbers(joined) == [2], "what waited is joined")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _tell(line: str) -> None:
    sys.stdout.write(f"\n{line}\n")
