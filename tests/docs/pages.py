"""Pages of the documentation as programs: their blocks, in order, in one shell.

A fence says what becomes of its block: `sh` and `python` are run, `sh fails` must fail, one with a
file's name is saved under it, `text` and `json` show what the run before them printed, and
`console` is what no test can run.
"""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

ROOT: Final = Path(__file__).parents[2]
ANYTHING: Final = "…"
"""In what is shown: whatever stands here was left out, or differs each time."""
_BLOCK: Final = re.compile(r"^```(\S+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_START: Final = """\
set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true; wait || true' EXIT
"""
_MARK: Final = "==== end of block"
_PORTS: Final = ("8000", "8001", "6379")
"""That pages name; a test has others."""


class Block(NamedTuple):
    """One fenced block."""

    language: str
    info: str
    """After the language: a file's name, a python block's environment, or that a sh block fails."""
    content: str


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [Block(*each) for each in found]


def run(
    page: Path,
    folder: Path,
    pythons: Mapping[str, Path] | None = None,
    variables: Mapping[str, str] | None = None,
    ports: Mapping[str, int] | None = None,
    hidden: Mapping[str, str] | None = None,
) -> str:
    """Run a page in a folder as a reader would, and hold what it shows to what was printed.

    Args:
        page: With blocks as this module says.
        folder: Where the reader is.
        pythons: Environment of python blocks to its interpreter.
        variables: That the reader's shell has besides.
        ports: Of the page to ours, where something listens already; else they are drawn.
        hidden: Start of a block to what is run before it: what the reader has done meanwhile.

    Returns:
        All that was printed.
    """
    ours = {port: str(its) for port, its in (ports or free_ports()).items()}
    found = blocks(page)
    interpreters = {"": Path(sys.executable)} | dict(pythons or {})
    text = script(found, interpreters, hidden or {})
    for port, its in ours.items():
        text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{its}")
        text = text.replace(f"-p {port}", f"-p {its}").replace(f"port {port}", f"port {its}")
    # A busy machine takes longer than a reader would wait.
    text = text.replace("--retry 100", "--retry 600")
    environment = _environment(folder, ours) | dict(variables or {})
    status, said = _run_script(text, folder, environment)
    done = re.split(rf"^{_MARK} \d+\n", said, flags=re.MULTILINE)
    assert status == 0, f"{page.name}, block {len(done)} ended with {status}:\n{said}"
    check_shown(found, done, dict(zip(ours.values(), ours, strict=True)))
    return said


def script(page: Sequence[Block], pythons: Mapping[str, Path], hidden: Mapping[str, str]) -> str:
    """Blocks as one shell script, a mark after each. Python blocks of one environment share names.

    Args:
        page: All its blocks.
        pythons: Environment to its interpreter; under "" our own.
        hidden: Start of a block to what is run before it; each start must be there.
    """
    missing = [each for each in hidden if not any(b.content.startswith(each) for b in page)]
    assert not missing, f"no block begins with {missing}"
    lines = [_START]
    defined: dict[str, str] = {}
    for number, block in enumerate(page):
        if number:
            lines.append(f"echo; echo '{_MARK} {number - 1}'")
        lines += [text for start, text in hidden.items() if block.content.startswith(start)]
        match block.language, block.info:
            case "sh", "fails":
                lines.append(f"if (\n{block.content}\n); then echo did not fail; exit 1; fi")
            case "sh", _:
                lines.append(block.content)
            case _, name if "." in name:
                lines.append(f"cat > {name} <<'END_OF_FILE'\n{block.content}END_OF_FILE")
            case "python", where:
                defined[where] = defined.get(where, "") + block.content
                # With what was defined before it, which must bear to be run again; so blocks that
                # follow each other are run as one.
                if page[number + 1 : number + 2] and page[number + 1][:2] == block[:2]:
                    continue
                name = f"examples_{number}.py"
                lines.append(f"cat > {name} <<'END_OF_FILE'\n{defined[where]}END_OF_FILE")
                lines.append(f"{pythons[where]} {name}")
    return "\n".join(lines)


def check_shown(page: Sequence[Block], said: Sequence[str], ports: Mapping[str, str]) -> None:
    """Hold each block that shows output to what the block before it printed.

    Args:
        page: All its blocks.
        said: What each of them printed.
        ports: Ours to the page's.
    """
    printed = ""
    for block, output in zip(page, said, strict=False):
        if block.language in ("sh", "python") and "." not in block.info:
            printed = output
            for ours, its in ports.items():
                printed = printed.replace(f":{ours}", f":{its}")
        elif block.language == "json":
            shown = msgspec.json.decode(block.content)
            assert any(_holds(each, shown) for each in _documents(printed)), (block, printed)
        elif block.language == "text":
            lines = iter(printed.splitlines())
            for line in block.content.splitlines():
                pattern = ".*".join(map(re.escape, line.strip().split(ANYTHING)))
                matches = (re.search(pattern, re.sub(r"\s+", " ", each)) for each in lines)
                assert any(matches), f"not printed: {line}\n{printed}"


def free_ports() -> dict[str, int]:
    """For each port of the pages another one of loopback that nobody listens on."""
    with ExitStack() as stack:
        # All at once: one that is free again may be drawn again.
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in _PORTS]
        return {port: its.getsockname()[1] for port, its in zip(_PORTS, taken, strict=True)}


def _documents(printed: str) -> Iterator[Any]:
    for line in printed.splitlines():
        # Without a newline after it, what curl printed shares its line with what comes next.
        with suppress(msgspec.DecodeError):
            yield msgspec.json.decode(line)


def _holds(found: Any, shown: Any) -> bool:
    """Whether a document says what is shown of it."""
    if shown == ANYTHING:
        return True
    if isinstance(shown, dict):
        return isinstance(found, dict) and all(
            name in found and _holds(found[name], value) for name, value in shown.items()
        )
    if isinstance(shown, list):
        return (
            isinstance(found, list) and len(found) == len(shown) and all(map(_holds, found, shown))
        )
    return bool(found == shown)


def _environment(folder: Path, ports: Mapping[str, str]) -> dict[str, str]:
    """What the reader's shell has: the environment entered, and the checkout."""
    commands = folder / "bin"
    commands.mkdir(exist_ok=True)
    for name, module in (("dqn", "-m cli"), ("python", "")):
        program = commands / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DQN_")}
    return clean | {
        "PATH": f"{commands}:{clean['PATH']}",
        "PYTHONPATH": f"{ROOT}:{folder}",
        "PYTHONWARNINGS": "ignore",
        "OMP_NUM_THREADS": "1",
        # Tables are as wide as they need to be.
        "COLUMNS": "200",
        "DQN_ROOT": str(ROOT),
        "DQN_SERVER": f"http://127.0.0.1:{ports['8000']}",
        "DQN_SERVE_PORT": ports["8000"],
        # A developer's disk may be nearly full, a loaded machine slow: neither is tried here.
        "DQN_SERVE_DISK_FREE_SHARE": "0",
        "DQN_SERVE_DEADLINE_MS": "1000",
        "DQN_SERVE_DRAIN_NOTICE_SECONDS": "0",
        # A reader waits ten seconds for what is sealed.
        "DQN_RECORD_SEAL_SECONDS": "0.5",
        "DQN_RECORD_METRICS_PORT": ports["8001"],
    }


def _run_script(text: str, folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    with (folder / "said.txt").open("w+", encoding="utf-8") as output:
        process = subprocess.Popen(
            ["bash", "-c", text],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A group of its own, so that a page that hangs leaves no server behind.
            start_new_session=True,
        )
        try:
            process.wait(timeout=900)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        return process.returncode, output.read()
