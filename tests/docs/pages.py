"""Pages of the documentation as programs: their blocks, in order, in one shell."""

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
_BLOCK: Final = re.compile(r"^```(\S+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_START: Final = """\
set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true; wait || true' EXIT
"""


class Block(NamedTuple):
    """One fenced block."""

    language: str
    where: str
    """What comes after the language: the environment that it runs in."""
    content: str


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [Block(*each) for each in found]


def script(page: Path, pythons: dict[str, Path]) -> str:
    """The page as one shell script. Python blocks of one environment share what they define.

    Args:
        page: With blocks of `sh` and `python`; others are not run.
        pythons: Environment to its interpreter; under "" our own.
    """
    lines = [_START]
    defined: dict[str, str] = {}
    waiting: set[str] = set()

    def run_waiting() -> None:
        for where in sorted(waiting):
            name = f"examples_{len(lines)}.py"
            lines.append(f"cat > {name} <<'END_OF_EXAMPLES'\n{defined[where]}END_OF_EXAMPLES")
            lines.append(f"{pythons[where]} {name}")
        waiting.clear()

    for block in blocks(page):
        if block.language == "sh":
            run_waiting()
            lines.append(block.content)
        elif block.language == "python":
            # With what was defined before it, which must bear to be run again.
            defined[block.where] = defined.get(block.where, "") + block.content
            waiting.add(block.where)
    run_waiting()
    return "\n".join(lines)


def run(page: Path, folder: Path, pythons: dict[str, Path] | None = None) -> str:
    """Run a page in a folder as a reader would; what it printed."""
    port = _free_port()
    text = script(page, {"": Path(sys.executable)} | (pythons or {}))
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    # What the reader's shell has: the environment entered, and the checkout.
    commands = folder / "bin"
    commands.mkdir()
    program = commands / "dqn"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m cli "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DQN_")}
    process = subprocess.Popen(
        ["bash", "-c", text],
        cwd=folder,
        env=clean
        | {
            "PATH": f"{commands}:{clean['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            "OMP_NUM_THREADS": "1",
            "DQN_ROOT": str(ROOT),
            "DQN_SERVER": f"http://127.0.0.1:{port}",
            "DQN_SERVE_PORT": str(port),
            # A developer's disk may be nearly full, a loaded machine slow: neither is tried here.
            "DQN_SERVE_DISK_FREE_SHARE": "0",
            "DQN_SERVE_DEADLINE_MS": "1000",
            "DQN_SERVE_DRAIN_NOTICE_SECONDS": "0",
            "DQN_SERVE_RECORD": "false",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A group of its own, so that a page that hangs leaves no server behind.
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=900)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == 0, said
    return said


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port
