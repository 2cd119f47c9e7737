"""Training in processes of its own, one thread each, and what they cost."""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
ROOT = Path(__file__).parents[2]


class Spent(NamedTuple):
    """What a process and its children took."""

    cpu_seconds: float
    """Start-up included."""

    printed: dict[str, Any]
    """The JSON of its last line, if that is some."""


class ProgramError(Exception):
    """A program failed; the message ends with what it said."""


def run(command: Sequence[str | Path], folder: Path = ROOT) -> Spent:
    """Run a program in a folder and wait for it.

    Raises:
        ProgramError: It failed.
    """
    before = _children_cpu_seconds()
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=os.environ | ONE_THREAD,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise ProgramError(f"{command[1]}: {done.stderr.strip()[-1500:]}")
    lines = done.stdout.strip().splitlines()
    is_json = bool(lines) and lines[-1].startswith("{")
    return Spent(_children_cpu_seconds() - before, json.loads(lines[-1]) if is_json else {})


def train(out: Path, flags: Sequence[str]) -> Spent:
    """Run `dqn train` as a user would."""
    return run([sys.executable, "-m", "training", "--out", out, "--no-tensorboard", *flags])


def cpu_seconds_a_step(command: Sequence[str | Path], flag: str, lengths: tuple[int, int]) -> float:
    """What one more step costs: the difference between a long and a short run, over its steps.

    Start-up, compilation and warm-up are in both, and so in neither.
    """
    with tempfile.TemporaryDirectory() as folder:
        spent = [
            run([*command, flag, str(length)], _own_folder(folder, length)).cpu_seconds
            for length in lengths
        ]
    return slope(lengths, (spent[0], spent[1]))


def slope(lengths: tuple[int, int], cpu_seconds: tuple[float, float]) -> float:
    """CPU seconds of a step more, from a short and a long run."""
    return (cpu_seconds[1] - cpu_seconds[0]) / (lengths[1] - lengths[0])


def _own_folder(folder: str, length: int) -> Path:
    path = Path(folder) / str(length)
    path.mkdir()
    return path


def _children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
