"""A load of wrk that pauses between requests: far from capacity, and the same with and without."""

import subprocess
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.serving.load import Load, LoadError, read_wrk
from benchmarks.serving.processes import cpu_seconds
from benchmarks.serving.rivals.wire import Request

CONNECTIONS: Final = 32
_PAUSES_MS: Final = (8, 16)
"""Drawn evenly, so that connections do not fall into step."""


def run_paced(url: str, request: Request, seconds: float, pid: int) -> Load:
    """Ask for some seconds, each connection about 80 times a second.

    Raises:
        LoadError: wrk is missing or failed, or nothing was answered.
    """
    with tempfile.TemporaryDirectory() as folder:
        script = _write_script(Path(folder), request)
        before = cpu_seconds(pid)
        done = subprocess.run(
            [
                *("wrk", "-t1", f"-c{CONNECTIONS}", f"-d{round(seconds)}s", "--latency"),
                *("--timeout", "10s", "-s", str(script), url + request.path),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        used = cpu_seconds(pid) - before
    if done.returncode != 0:
        raise LoadError(f"wrk: {done.stderr or done.stdout}")
    return read_wrk(done.stdout, used)


def _write_script(folder: Path, request: Request) -> Path:
    body, script = folder / "body", folder / "post.lua"
    body.write_bytes(request.body)
    low, high = _PAUSES_MS
    lines = ['wrk.method = "POST"', f'wrk.body = io.open("{body}", "rb"):read("*a")']
    lines += [f'wrk.headers["{name}"] = "{value}"' for name, value in request.headers.items()]
    lines.append(f"function delay() return math.random({low}, {high}) end")
    script.write_text("\n".join(lines), encoding="utf-8")
    return script
