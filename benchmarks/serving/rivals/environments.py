"""An environment of its own for each rival, made on first use under `.bench/<name>`."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.serving.rivals.table import Rival

ENVIRONMENTS = Path(__file__).parents[3] / ".bench"
_NOTE = "requirements.json"


class InstallError(Exception):
    """A rival's packages could not be installed."""


def is_installed(rival: Rival) -> bool:
    """Whether its environment holds what the table says now."""
    note = ENVIRONMENTS / rival.name / _NOTE
    return note.exists() and json.loads(note.read_text()) == _wanted(rival)


def program(rival: Rival, name: str) -> str:
    """The path of a program in a rival's environment."""
    return str(ENVIRONMENTS / rival.name / "bin" / name)


def install(rival: Rival) -> None:
    """Make the environment, afresh where it is not as the table says.

    Raises:
        InstallError: uv failed; the message ends with what it said.
    """
    if is_installed(rival):
        return
    folder = ENVIRONMENTS / rival.name
    shutil.rmtree(folder, ignore_errors=True)
    _uv("venv", "--python", rival.python or sys.executable, str(folder))
    _uv("pip", "install", "--python", program(rival, "python"), *rival.requirements)
    # Written last: an install that broke off is not taken for one that is there.
    (folder / _NOTE).write_text(json.dumps(_wanted(rival)))


def _wanted(rival: Rival) -> list[str]:
    return [rival.python or "", *rival.requirements]


def _uv(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "uv", "--quiet", *arguments], capture_output=True, text=True
    )
    if done.returncode != 0:
        raise InstallError(f"uv {arguments[0]}: {done.stderr.strip()[-1500:]}")
