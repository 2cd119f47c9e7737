"""The common setting: CartPole, an MLP of 2 x 128, batches of 64, one update a step, one thread."""

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import Figure
from benchmarks.training.processes import FROM_HERE, Program, seconds_a_step
from benchmarks.training.rivals.environments import Library

OURS = (
    *(sys.executable, "-m", "training", "--out", "run", "--no-tensorboard"),
    *("--environment-id", "CartPole-v1", "--num-environments", "1"),
    # As the libraries do it: plain DQN, observations as they are.
    *("--no-double", "--no-normalise-observations"),
    *("--hidden-sizes", "128,128", "--batch-size", "64", "--optimiser-epsilon", "1e-8"),
    *("--steps-between-updates", "1", "--updates-per-round", "1", "--learning-starts", "1000"),
    *("--replay-capacity", "10000", "--target-sync-steps", "1000"),
    *("--evaluation-every-steps", "1000000", "--checkpoint-every-steps", "1000000"),
    *("--evaluation-episodes", "1"),
)
COMPILED, IN_PARTS = ("--compile-updates", "always"), ("--compile-updates", "never")
CLEANRL_FLAGS = (
    *("--env-id", "CartPole-v1", "--cuda", "False", "--batch-size", "64"),
    *("--train-frequency", "1", "--learning-starts", "1000", "--learning-rate", "1e-3"),
)
GOAL_RATIO = 2.0


def measure_speed(libraries: Sequence[Library], rounds: int, *, quick: bool) -> list[Figure]:
    """Updates a CPU second of this project and of each library, in so many turns."""
    # Ten thousand updates apart: compiling takes a second more or less from one start to the next.
    lengths = (1_200, 1_700) if quick else (2_000, 12_000)
    programs = [
        *(Program((*OURS, *how), "--total-steps", FROM_HERE) for how in (COMPILED, IN_PARTS)),
        *(
            Program((library.python, *_arguments(library)), _steps_flag(library))
            for library in libraries
        ),
    ]
    costs = seconds_a_step(programs, lengths, rounds)
    ours, in_parts, *others = (1.0 / cost for cost in costs)
    rates = dict(zip((library.title for library in libraries), others, strict=True))
    figures = [
        Figure("common setting, this project, update in parts", in_parts, "updates/CPU s"),
        *(
            Figure(f"common setting, {title}", rate, "updates/CPU s", ratio=ours / rate)
            for title, rate in rates.items()
        ),
    ]
    fastest = max(rates, key=lambda title: rates[title]) if rates else None
    ratio = None if fastest is None else ours / rates[fastest]
    return [
        Figure(
            "common setting, this project, update compiled as one function",
            ours,
            "updates/CPU s",
            goal=f"at least {GOAL_RATIO:g} times the fastest library",
            rival=None if fastest is None else f"{fastest}: {rates[fastest]:.0f}",
            ratio=ratio,
            met=None if ratio is None else ratio >= GOAL_RATIO,
        ),
        *figures,
    ]


def _arguments(library: Library) -> tuple[str | Path, ...]:
    return (*library.command, *(CLEANRL_FLAGS if library.name == "train-cleanrl" else ()))


def _steps_flag(library: Library) -> str:
    return "--total-timesteps" if library.name == "train-cleanrl" else "--steps"
