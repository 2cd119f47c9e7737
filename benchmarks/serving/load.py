"""Closed-loop load with wrk: every connection asks again as soon as it is answered."""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from benchmarks.serving.processes import cpu_seconds
from benchmarks.serving.rivals.wire import Request

_SOCKET_ERRORS = ("connect", "read", "write", "timeout")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


class LoadError(Exception):
    """The load could not be made, or nothing was answered."""


@dataclass(frozen=True)
class Load:
    """What one load found."""

    requests_per_second: float
    """Answered with 2xx."""
    p50_seconds: float
    p99_seconds: float
    cpu_seconds_per_request: float
    """User and system time of all the server's processes."""
    failures: int
    """Answers other than 2xx, and connections that broke or waited too long."""


def run_wrk(url: str, request: Request, connections: int, seconds: float, pid: int) -> Load:
    """Ask for some seconds over keep-alive connections, from one thread.

    Raises:
        LoadError: wrk is missing or failed, or nothing was answered.
    """
    if which("wrk") is None:
        raise LoadError("wrk is needed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        script = _write_script(Path(folder), request)
        before = cpu_seconds(pid)
        done = subprocess.run(
            [
                *("wrk", "-t1", f"-c{connections}", f"-d{round(seconds)}s", "--latency"),
                *("--timeout", "10s", "-s", str(script), url + request.path),
            ],
            capture_output=True,
            text=True,
        )
        used = cpu_seconds(pid) - before
    if done.returncode != 0:
        raise LoadError(f"wrk: {done.stderr or done.stdout}")
    return read_wrk(done.stdout, used)


def read_wrk(told: str, cpu_seconds_used: float) -> Load:
    """What wrk printed, as a value.

    Raises:
        LoadError: It is not what wrk prints, or it was never answered.
    """
    asked, seconds, unit = _find(r"(\d+) requests in ([\d.]+)(\w+),", told)
    refused = _count(r"Non-2xx or 3xx responses: (\d+)", told)
    broken = sum(_count(rf"Socket errors:.*{kind} (\d+)", told) for kind in _SOCKET_ERRORS)
    answered = int(asked) - refused
    if answered == 0:
        raise LoadError(f"no request was answered with 2xx:\n{told}")
    return Load(
        requests_per_second=answered / (float(seconds) * _UNITS[unit]),
        p50_seconds=_seconds(*_find(r"50%\s+([\d.]+)(\w+)", told)),
        p99_seconds=_seconds(*_find(r"99%\s+([\d.]+)(\w+)", told)),
        cpu_seconds_per_request=cpu_seconds_used / int(asked),
        failures=refused + broken,
    )


def _write_script(folder: Path, request: Request) -> Path:
    """A script that reads the body from a file: Lua's strings have no escape for every byte."""
    body = folder / "body"
    body.write_bytes(request.body)
    lines = ['wrk.method = "POST"', f'wrk.body = io.open("{body}", "rb"):read("*a")']
    lines += [f'wrk.headers["{name}"] = "{value}"' for name, value in request.headers.items()]
    script = folder / "post.lua"
    script.write_text("\n".join(lines), encoding="utf-8")
    return script


def _find(pattern: str, text: str) -> tuple[str, ...]:
    match = re.search(pattern, text)
    if match is None:
        raise LoadError(f"wrk did not print {pattern!r}:\n{text}")
    return match.groups()


def _count(pattern: str, text: str) -> int:
    match = re.search(pattern, text)
    return 0 if match is None else int(match[1])


def _seconds(number: str, unit: str) -> float:
    return float(number) * _UNITS[unit]
