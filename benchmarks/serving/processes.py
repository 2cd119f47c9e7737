"""Servers as processes: started, watched, their CPU time added up, stopped."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_STOP_SECONDS = 20.0


class StartError(Exception):
    """A server did not come up; the message ends with what it said."""


@contextmanager
def server_process(
    command: Sequence[str],
    is_up: Callable[[], bool],
    seconds: float,
    environment: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """Run a server until the block ends; yields its process id once it is up.

    Raises:
        StartError: It ended, or was not up in time.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            cwd=_ROOT,
            env={**os.environ, **(environment or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_until_up(process, is_up, seconds, output.fileno())
            yield process.pid
        finally:
            _stop(process)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, of its descendants, and of its session."""
    return sum(own_cpu_seconds(each) for each in process_tree(pid))


def own_cpu_seconds(pid: int) -> float:
    """User and system time of one process, to the nanosecond; 0 of one that is gone."""
    try:
        return time.clock_gettime(_cpu_clock(pid))
    except OSError:
        return 0.0


def _cpu_clock(pid: int) -> int:
    """What clock_getcpuclockid(3) gives: the process's own clock, which no standard module asks."""
    return (~pid << 3) | 2


def process_tree(pid: int) -> set[int]:
    """A process, its descendants, and all of its session: some servers detach their workers."""
    parents, sessions = {}, {}
    for folder in Path("/proc").iterdir():
        fields = _stat_fields(folder.name) if folder.name.isdigit() else None
        if fields is not None:
            parents[int(folder.name)] = int(fields[1])
            sessions[int(folder.name)] = int(fields[3])
    found = {pid} | {each for each, session in sessions.items() if session == pid}
    grew = True
    while grew:
        more = {child for child, parent in parents.items() if parent in found} - found
        found |= more
        grew = bool(more)
    return found


def free_port() -> int:
    """A port that nobody listens on, with two more above it for servers that want them."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if not any(listens(port + more) for more in range(3)):
            return port


def listens(port: int) -> bool:
    """Whether a connection to a port of this machine is accepted."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait_until_up(
    process: "subprocess.Popen[bytes]", is_up: Callable[[], bool], seconds: float, output: int
) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.poll() is not None:
            raise StartError(f"ended with {process.returncode}: {_tail(output)}")
        if is_up():
            return
        time.sleep(0.1)
    raise StartError(f"not up after {seconds:.0f} s: {_tail(output)}")


def _tail(output: int) -> str:
    size = os.fstat(output).st_size
    return os.pread(output, 1500, max(0, size - 1500)).decode(errors="replace").strip()


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask it to end, then end what is left of it, children that outlive it included."""
    started = process_tree(process.pid)
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    for pid in started:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _stat_fields(pid: str) -> list[str] | None:
    """Fields of /proc/<pid>/stat from the third on; None for a process that is gone."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The command, in parentheses, may hold spaces.
    return told.rpartition(")")[2].split()
