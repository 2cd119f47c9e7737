"""The libraries that training is measured beside, each in an environment under `.bench/`."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ENVIRONMENTS = Path(__file__).parents[3] / ".bench"
PROGRAMS = Path(__file__).parent
_NOTE = "requirements.json"
_TORCH = "torch==2.13.0"


class InstallError(Exception):
    """A library's packages could not be installed."""


class Library(NamedTuple):
    """One library, and how it is asked to train."""

    name: str
    title: str
    requirements: tuple[str, ...]
    command: tuple[str, ...]
    """After the interpreter; flags for what to train come behind."""

    old: tuple[str, ...] = ()
    """Packages that refuse this Python on paper only; their requirements are in the list."""

    @property
    def python(self) -> str:
        """The interpreter of its environment."""
        return str(ENVIRONMENTS / self.name / "bin" / "python")


LIBRARIES = (
    Library(
        "train-sb3",
        "Stable-Baselines3 2.9.2",
        ("stable-baselines3==2.9.2", "gymnasium[box2d]>=1.0"),
        (str(PROGRAMS / "sb3_dqn.py"),),
    ),
    Library(
        "train-cleanrl",
        "CleanRL 1.2.0, whose layers are 120 and 84 wide",
        (
            "stable-baselines3==2.3.2",
            "gymnasium==0.29.1",
            "numpy==1.26.4",
            "tensorboard==2.18.0",
            "setuptools==75.8.0",
        ),
        ("-m", "cleanrl.dqn"),
        ("cleanrl==1.2.0",),
    ),
    Library(
        "train-tianshou",
        "Tianshou 2.0.1",
        ("tianshou==2.0.1",),
        (str(PROGRAMS / "tianshou_dqn.py"),),
    ),
)


def is_installed(library: Library) -> bool:
    """Whether its environment holds what is listed now."""
    note = ENVIRONMENTS / library.name / _NOTE
    return note.exists() and json.loads(note.read_text()) == _wanted(library)


def install(library: Library) -> None:
    """Make the environment, afresh where it is not as listed.

    Raises:
        InstallError: pip failed; the message ends with what it said.
    """
    if is_installed(library):
        return
    folder = ENVIRONMENTS / library.name
    shutil.rmtree(folder, ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(folder))
    # PyTorch first: what follows then keeps this build and fetches no other.
    _pip(library, _TORCH)
    _pip(library, *library.requirements)
    if library.old:
        _pip(library, "--no-deps", "--ignore-requires-python", *library.old)
    # Written last: an install that broke off is not taken for one that is there.
    (folder / _NOTE).write_text(json.dumps(_wanted(library)))


def _wanted(library: Library) -> list[str]:
    return [_TORCH, *library.requirements, *library.old]


def _pip(library: Library, *arguments: str) -> None:
    _run(library.python, "-m", "pip", "--quiet", "install", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise InstallError(f"{' '.join(command[1:4])}: {done.stderr.strip()[-1500:]}")
