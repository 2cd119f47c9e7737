"""The service as it is started: a supervisor, its workers, and signals."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.service.running import WAIT_SECONDS, sample, wait_until

FLAGS = (
    "--port=0",
    "--log-json",
    "--disk-free-share=0",
    "--deadline-ms=1000",
    "--reload-seconds=0.2",
    "--spool-commit-seconds=0.01",
    "--drain-seconds=5",
    "--drain-notice-seconds=0",
    "--no-record",
)


class Process:
    """A supervisor that serves `data`, with the code of another checkout where one is named."""

    def __init__(self, data: Path, *flags: str, code: str | None = None, **variables: str) -> None:
        kept = {name: value for name, value in os.environ.items() if name[:4] != "DQN_"}
        self._log = data / "service.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "service", f"--data={data}", *FLAGS, *flags],
                stderr=log,
                env=kept | variables,
                cwd=code,
            )
        self.pid = self._process.pid
        wait_until(lambda: bool(self._urls()), "the supervisor listens")
        url, self.admin_url = self._urls()[0]
        self.client = httpx.Client(base_url=url, timeout=WAIT_SECONDS)

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def wait_until_ready(self) -> None:
        wait_until(self.is_ready, "the service is ready")

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.admin_url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def workers(self) -> list[int]:
        """Process ids of the running workers."""
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(word) for word in listed.read_text(encoding="ascii").split()]

    def metric(self, name: str, **labels: str) -> float:
        # A connection of its own each time: any worker may answer.
        return sample(httpx.get(f"{self.admin_url}/metrics").text, name, **labels)

    def kill_all(self) -> None:
        """As a power cut would."""
        for pid in (self.pid, *self.workers()):
            os.kill(pid, signal.SIGKILL)
        self._process.wait(WAIT_SECONDS)

    def kill_supervisor(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self._process.wait(WAIT_SECONDS)

    def ask_to_stop(self) -> None:
        self._process.terminate()

    def stop(self) -> int:
        """Ask it to stop; its exit status."""
        self.ask_to_stop()
        return self._process.wait(WAIT_SECONDS)

    def close(self) -> None:
        self.client.close()
        if self._process.poll() is None:
            self.kill_all()

    def _urls(self) -> list[tuple[str, str]]:
        assert self._process.poll() is None, self.log()
        lines = [line for line in self.log().splitlines() if line.startswith("{")]
        events = [json.loads(line) for line in lines]
        serving = [event for event in events if event["event"] == "serving"]
        # A release that has one port for all says no more of it.
        return [(event["url"], event.get("admin_url", event["url"])) for event in serving]


@contextmanager
def process(
    data: Path, *flags: str, code: str | None = None, **variables: str
) -> Iterator[Process]:
    """Serve until the block ends, whatever became of it."""
    started = Process(data, *flags, code=code, **variables)
    try:
        yield started
    finally:
        started.close()


def is_running(pid: int) -> bool:
    """Whether a process that is not our child is there."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
