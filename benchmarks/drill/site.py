"""Redis, service, recorder, Prometheus and Alertmanager, each a process of its own."""

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from benchmarks.drill.scaled_rules import write_scaled
from benchmarks.serving.processes import free_port, listens, server_process

_RULES: Final = Path("dashboards/prometheus/rules")
_START_SECONDS: Final = 120.0


@dataclass(frozen=True)
class Notice:
    """One alert, as Alertmanager told it."""

    name: str
    is_firing: bool
    at: float
    """On `time.monotonic`."""


@dataclass
class Pager:
    """What Alertmanager's webhook was told."""

    notices: list[Notice] = field(default_factory=list)

    def firing_since(self, name: str, since: float) -> float | None:
        """When an alert was first told as firing, after a moment."""
        told = [n.at for n in self.notices if n.name == name and n.is_firing and n.at >= since]
        return min(told, default=None)

    def names_since(self, since: float) -> list[str]:
        """Which alerts began after a moment."""
        return sorted({n.name for n in self.notices if n.is_firing and n.at >= since})


@dataclass(frozen=True)
class Site:
    """Where everything is."""

    service: str
    prometheus: str
    pager: Pager
    redis_pid: int

    def promote(self, version: int, policy: str, *, is_first: bool = False) -> int:
        """Let a version serve; the service's status."""
        body = {"version": version, "why": "the drill", "first": is_first}
        url = f"{self.service}/v1/policies/{policy}/promote"
        return httpx.post(url, json=body, timeout=60.0).status_code

    def firing(self) -> set[str]:
        """Alerts that Prometheus fires now."""
        answer = httpx.get(f"{self.prometheus}/api/v1/alerts", timeout=10.0).json()
        alerts = answer["data"]["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    def stop_redis(self) -> int:
        """Redis answers nobody, and keeps its connections: what a hung machine looks like."""
        os.kill(self.redis_pid, signal.SIGSTOP)
        return 0

    def resume_redis(self) -> int:
        """Redis goes on."""
        os.kill(self.redis_pid, signal.SIGCONT)
        return 0


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """Everything up, around a repository at `<folder>/data/policies`; ends what it started."""
    with ExitStack() as stack:
        redis_port, service_port, recorder_port = free_port(), free_port(), free_port()
        (folder / "redis").mkdir()
        redis = stack.enter_context(
            server_process(
                [
                    *("redis-server", "--bind", "127.0.0.1", "--port", str(redis_port)),
                    *("--dir", str(folder / "redis"), "--save", "", "--appendonly", "yes"),
                ],
                lambda: listens(redis_port),
                _START_SECONDS,
            )
        )
        url = f"http://127.0.0.1:{service_port}"
        stack.enter_context(
            server_process(
                [sys.executable, "-m", "service"],
                lambda: _answers(f"{url}/readyz"),
                _START_SECONDS,
                {
                    "DQN_SERVE_DATA": str(folder / "data"),
                    "DQN_SERVE_PORT": str(service_port),
                    "DQN_SERVE_REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
                    "DQN_SERVE_DISK_FREE_SHARE": "0",
                    "DQN_SERVE_DEADLINE_MS": "50",
                    "DQN_SERVE_DRIFT_WINDOW_ROWS": "200",
                    "DQN_SERVE_DRIFT_WINDOW_SECONDS": "1",
                },
            )
        )
        stack.enter_context(
            server_process(
                [sys.executable, "-m", "recorder"],
                lambda: listens(recorder_port),
                _START_SECONDS,
                {
                    "DQN_RECORD_DATA": str(folder / "data"),
                    "DQN_RECORD_REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
                    "DQN_RECORD_SEAL_SECONDS": "1",
                    "DQN_RECORD_METRICS_PORT": str(recorder_port),
                },
            )
        )
        pager = stack.enter_context(_pager())
        alertmanager = stack.enter_context(_alertmanager(folder, pager[1]))
        ports = {"dqn": service_port, "dqn-recorder": recorder_port}
        prometheus = stack.enter_context(_prometheus(folder, ports, alertmanager))
        yield Site(url, prometheus, pager[0], redis)


@contextmanager
def _prometheus(folder: Path, ports: dict[str, int], alertmanager: int) -> Iterator[str]:
    port = free_port()
    (folder / "rules").mkdir()
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(path) for path in write_scaled(_RULES, folder / "rules")],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]
        },
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{each}"]}]}
            for job, each in ports.items()
        ],
    }
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    command = [
        _program("prometheus"),
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    url = f"http://127.0.0.1:{port}"
    with server_process(command, lambda: _answers(f"{url}/-/ready"), _START_SECONDS):
        yield url


@contextmanager
def _alertmanager(folder: Path, pager: int) -> Iterator[int]:
    """One that tells at once, each alert by itself: what is timed here is the alert."""
    port = free_port()
    configuration = {
        "route": {
            "receiver": "pager",
            "group_by": ["..."],
            "group_wait": "0s",
            "group_interval": "1s",
            "repeat_interval": "1h",
        },
        "receivers": [
            {"name": "pager", "webhook_configs": [{"url": f"http://127.0.0.1:{pager}/"}]}
        ],
    }
    path = folder / "alertmanager.yml"
    path.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    command = [
        _program("prometheus-alertmanager"),
        f"--config.file={path}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with server_process(
        command, lambda: _answers(f"http://127.0.0.1:{port}/-/ready"), _START_SECONDS
    ):
        yield port


@contextmanager
def _pager() -> Iterator[tuple[Pager, int]]:
    pager = Pager()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            told: dict[str, Any] = json.loads(self.rfile.read(length))
            for alert in told["alerts"]:
                is_firing = alert["status"] == "firing"
                name = alert["labels"]["alertname"]
                pager.notices.append(Notice(name, is_firing, time.monotonic()))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, name="pager")
    thread.start()
    try:
        yield pager, server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is needed: apt-get install prometheus-alertmanager")
    return found


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2.0).status_code == 200
    except httpx.TransportError:
        return False
