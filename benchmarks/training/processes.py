"""Training in processes of its own, one thread each, and what they cost."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
ROOT = Path(__file__).parents[2]

FROM_HERE = MappingProxyType({"PYTHONPATH": str(ROOT)})
"""For this project's own programs, which run in folders of their own."""


Clock = Literal["cpu", "wall"]
"""What is counted: seconds of all cores together, or those that pass."""


class Spent(NamedTuple):
    """What a process and its children took, start-up included."""

    cpu_seconds: float
    wall_seconds: float
    printed: dict[str, Any]
    """The JSON of its last line, if that is some."""


class Program(NamedTuple):
    """A program that trains for as many steps as it is told."""

    command: tuple[str | Path, ...]
    steps_flag: str
    environment: Mapping[str, str] = MappingProxyType({})
    """Variables that it needs beside those that are there."""


class ProgramError(Exception):
    """A program failed; the message ends with what it said."""


def run(
    command: Sequence[str | Path],
    folder: Path = ROOT,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Spent:
    """Run a program in a folder, with some variables more, and wait for it.

    Raises:
        ProgramError: It failed.
    """
    before, began = _children_cpu_seconds(), time.monotonic()
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=os.environ | ONE_THREAD | dict(environment),
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise ProgramError(f"{command[1]}: {done.stderr.strip()[-1500:]}")
    lines = done.stdout.strip().splitlines()
    is_json = bool(lines) and lines[-1].startswith("{")
    return Spent(
        cpu_seconds=_children_cpu_seconds() - before,
        wall_seconds=time.monotonic() - began,
        printed=json.loads(lines[-1]) if is_json else {},
    )


def train(out: Path, flags: Sequence[str]) -> Spent:
    """Run `dqn train` as a user would."""
    return run([sys.executable, "-m", "training", "--out", out, "--no-tensorboard", *flags])


def seconds_a_step(
    programs: Sequence[Program], lengths: tuple[int, int], rounds: int, clock: Clock = "cpu"
) -> list[float]:
    """What one more step costs each program, the median of some rounds.

    It is the difference between a long and a short run, over its steps: start-up, compilation and
    warm-up are in both, and so in neither. Programs take turns, so that a machine that is busier
    for a while is so for all of them.
    """
    costs: list[list[float]] = [[] for _ in programs]
    for _ in range(rounds):
        spent = [[_spent(program, length, clock) for program in programs] for length in lengths]
        for cost, short, long in zip(costs, *spent, strict=True):
            cost.append(slope(lengths, (short, long)))
    return [median(cost) for cost in costs]


def slope(lengths: tuple[int, int], seconds: tuple[float, float]) -> float:
    """Seconds of a step more, from a short and a long run."""
    return (seconds[1] - seconds[0]) / (lengths[1] - lengths[0])


def _spent(program: Program, length: int, clock: Clock) -> float:
    command = [*program.command, program.steps_flag, str(length)]
    with tempfile.TemporaryDirectory() as folder:
        spent = run(command, Path(folder), program.environment)
    return spent.cpu_seconds if clock == "cpu" else spent.wall_seconds


def _children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
