"""Redis, service, recorder, Prometheus and Alertmanager, each a process of its own."""

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from benchmarks.drill.bundles import POLICY
from benchmarks.drill.scaled_rules import AlertRule, read_alerts, write_scaled
from benchmarks.serving.processes import free_port, listens, server_process

_RULES: Final = Path("dashboards/prometheus/rules")
_START_SECONDS: Final = 120.0

SCRAPE_SECONDS: Final = 1
"""And between evaluations of the rules."""
_STEP_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Notice:
    """One alert, as Alertmanager told it."""

    name: str
    is_firing: bool
    at: float
    """Unix seconds."""


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
    alerts: dict[str, AlertRule]

    def operate(self, action: str, **body: Any) -> int:
        """Call one of the operator's ways in; the service's status."""
        url = f"{self.service}/v1/policies/{POLICY}/{action}"
        return httpx.post(url, json={"why": "the drill", **body}, timeout=60.0).status_code

    def rollout(self) -> dict[str, Any]:
        """The trial that is open, else the last one."""
        url = f"{self.service}/v1/policies/{POLICY}/rollout/verdict"
        found: dict[str, Any] = httpx.get(url, timeout=10.0).json()
        return found

    def crossed_at(self, alert: str, begin: float, end: float) -> float | None:
        """Since when, without a break, what was scraped was beyond a limit; Unix seconds."""
        asked = {"query": self.alerts[alert].expr, "start": str(begin), "end": str(end)}
        answer = httpx.get(
            f"{self.prometheus}/api/v1/query_range",
            params={**asked, "step": str(_STEP_SECONDS)},
            timeout=30.0,
        ).json()
        found = [
            beginning_of_last([float(at) for at, _ in series["values"]], _STEP_SECONDS)
            for series in answer["data"]["result"]
        ]
        # Before the first step at which it held, so that nothing is gained by the grid.
        return min(found) - _STEP_SECONDS if found else None

    def ringing(self) -> set[str]:
        """Alerts that Prometheus fires now, or is about to."""
        answer = httpx.get(f"{self.prometheus}/api/v1/alerts", timeout=10.0).json()
        return {each["labels"]["alertname"] for each in answer["data"]["alerts"]}

    def stop_redis(self) -> int:
        """Redis answers nobody, and keeps its connections: what a hung machine looks like."""
        os.kill(self.redis_pid, signal.SIGSTOP)
        return 0

    def resume_redis(self) -> int:
        """Redis goes on."""
        os.kill(self.redis_pid, signal.SIGCONT)
        return 0


def beginning_of_last(times: Sequence[float], step: float) -> float:
    """Where the last unbroken row of times begins: a rule whose `for` was broken waits anew."""
    began = times[-1]
    for earlier in reversed(times):
        if began - earlier > 1.5 * step:
            break
        began = earlier
    return began


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
        (folder / "rules").mkdir()
        rules = write_scaled(_RULES, folder / "rules")
        prometheus = stack.enter_context(_prometheus(folder, rules, ports, alertmanager))
        yield Site(url, prometheus, pager[0], redis, read_alerts(rules))


@contextmanager
def _prometheus(
    folder: Path, rules: list[Path], ports: dict[str, int], alertmanager: int
) -> Iterator[str]:
    port, interval = free_port(), f"{SCRAPE_SECONDS}s"
    configuration = {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": list(map(str, rules)),
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
                pager.notices.append(Notice(name, is_firing, time.time()))
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
