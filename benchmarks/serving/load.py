"""Closed-loop load with wrk: every connection asks again as soon as it is answered."""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from shutil import which

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


class LoadError(Exception):
    """The load could not be made, or was not answered as it should be."""


@dataclass(frozen=True)
class Load:
    """What one load found."""

    requests_per_second: float
    p50_seconds: float
    p99_seconds: float
    server_cpu_seconds_per_request: float


def run_wrk(
    url: str, body: bytes, connections: int, seconds: float, server_pid: int, key: str | None
) -> Load:
    """Ask for some seconds over keep-alive connections, from one thread.

    Raises:
        LoadError: wrk is missing, or a request failed.
    """
    if which("wrk") is None:
        raise LoadError("wrk is needed: apt-get install wrk")
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    lines = ['wrk.method = "POST"', f"wrk.body = {_lua(body.decode())}"]
    lines += [f"wrk.headers[{_lua(name)}] = {_lua(value)}" for name, value in headers.items()]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text("\n".join(lines), encoding="utf-8")
        before = _cpu_seconds(server_pid)
        done = subprocess.run(
            [
                *("wrk", "-t1", f"-c{connections}", f"-d{round(seconds)}s", "--latency"),
                *("-s", str(script), url),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        used = _cpu_seconds(server_pid) - before
    told = done.stdout
    if "Non-2xx" in told or "Socket errors" in told:
        raise LoadError(told)
    requests = int(_find(r"(\d+) requests in", told))
    return Load(
        float(_find(r"Requests/sec:\s+([\d.]+)", told)),
        _seconds(_find(r"50%\s+(\S+)", told)),
        _seconds(_find(r"99%\s+(\S+)", told)),
        used / requests,
    )


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process and the children that it still has."""
    pids = [pid]
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split():
        pids.append(int(child))
    return sum(_own_cpu_seconds(each) for each in pids)


def _own_cpu_seconds(pid: int) -> float:
    # The command, in parentheses, may hold spaces; user and system ticks are fields 14 and 15.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _find(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise LoadError(f"wrk did not print {pattern!r}:\n{text}")
    return match[1]


def _seconds(told: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(\w+)", told).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS[unit]


def _lua(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
