"""`python -m benchmarks.presets`: what the training presets reach, seed by seed.

Each seed is trained as a user would train it, in a process of its own with one thread; its CPU
time, start-up included, is the system's count. Its best checkpoint then plays 100 greedy episodes
that training has not seen.
"""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from pydantic import PositiveInt
from pydantic_settings import CliApp

from benchmarks.report import Figure, print_figures, write_result
from benchmarks.training.overestimation import (
    HIGHEST_RATIO,
    LARGEST_BIAS,
    LOWEST_RATIO,
    bias,
)
from training.checkpoint import read_checkpoint
from training.evaluate import evaluate_checkpoint
from training.flags import Flags

_PACKAGES = ("torch", "numpy", "gymnasium")
_EPISODES = 100
_FIRST_EVALUATION_SEED = 1_000_000
_QUICK_STEPS = 3_000
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class PresetsBenchmark(Flags):
    """Train presets from several seeds and evaluate what they reach."""

    preset: str = "cartpole"
    """The preset to train."""

    seeds: PositiveInt = 10
    """Train from seeds 0 to this, exclusive."""

    quick: bool = False
    """One seed for a few steps: shows in under a minute that this still runs; writes no result."""


class Goal(NamedTuple):
    """What a preset promises."""

    mean_return: float
    cpu_seconds: float
    share_of_seeds: float
    rival: str
    calibration: Literal["ratio", "bias"]
    """How Q-values are judged: by a ratio, or where returns may be near nothing by a difference."""


GOALS = {
    "cartpole": Goal(
        495.0, 90.0, 0.9, "Stable-Baselines3, rl-zoo settings: 500 (published)", "ratio"
    ),
    "lunarlander": Goal(
        220.0, 900.0, 0.8, "Stable-Baselines3, rl-zoo settings: 154 (published)", "bias"
    ),
}


class SeedResult(NamedTuple):
    """What one seed reached."""

    seed: int
    mean_return: float
    lowest_return: float
    cpu_seconds: float
    steps: int
    """Environment steps before training stopped."""

    promise_ratio: float
    """max Q at the start over the discounted return that came of it."""

    bias: float
    """mean(Q - G) / sd(G) over the starts."""


def train_seed(preset: str, seed: int, out: Path, flags: list[str]) -> SeedResult:
    """Train one seed in a child process and evaluate its best checkpoint."""
    cpu_before = _children_cpu_seconds()
    subprocess.run(
        [
            *(sys.executable, "-m", "training", "--preset", preset),
            *("--out", str(out), "--seed", str(seed), *flags),
        ],
        env=os.environ | _ONE_THREAD,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    cpu_seconds = _children_cpu_seconds() - cpu_before
    result = evaluate_checkpoint(
        read_checkpoint(out / "best"),
        _EPISODES,
        epsilon=0.0,
        seed=_FIRST_EVALUATION_SEED + seed,
    )
    return SeedResult(
        seed=seed,
        mean_return=result.mean_return,
        lowest_return=min(result.returns),
        cpu_seconds=cpu_seconds,
        steps=read_checkpoint(out / "last").metadata.steps,
        promise_ratio=result.promise_ratio,
        bias=bias(result),
    )


def summarise(preset: str, goal: Goal, results: list[SeedResult]) -> list[Figure]:
    """The figures of a preset: the promise first, then what it is made of, then each seed."""
    good = [
        result
        for result in results
        if result.mean_return >= goal.mean_return and result.cpu_seconds <= goal.cpu_seconds
    ]
    cpu_seconds = [result.cpu_seconds for result in results]
    needed = goal.share_of_seeds * len(results)
    promise = Figure(
        f"{preset}: seeds of {len(results)} with a mean return of {goal.mean_return:g} over "
        f"{_EPISODES} greedy episodes within {goal.cpu_seconds:g} CPU seconds",
        len(good),
        "seeds",
        goal=f"at least {needed:g}",
        rival=goal.rival,
        met=len(good) >= needed,
    )
    figures = [
        promise,
        Figure(
            f"{preset}: mean return, mean over seeds",
            float(np.mean([result.mean_return for result in results])),
            "return",
        ),
        Figure(f"{preset}: CPU time, median seed", float(np.median(cpu_seconds)), "seconds"),
        Figure.at_most(
            f"{preset}: CPU time, slowest seed", max(cpu_seconds), "seconds", goal.cpu_seconds
        ),
        *_calibration(preset, goal, results),
    ]
    for result in results:
        name = f"{preset}, seed {result.seed}"
        figures += [
            Figure.at_least(f"{name}: mean return", result.mean_return, "return", goal.mean_return),
            Figure(f"{name}: lowest return", result.lowest_return, "return"),
            Figure(f"{name}: CPU time", result.cpu_seconds, "seconds"),
            Figure(f"{name}: steps", result.steps, "environment steps"),
        ]
    return figures


def _calibration(preset: str, goal: Goal, results: list[SeedResult]) -> list[Figure]:
    if goal.calibration == "bias":
        worst = max((result.bias for result in results), key=abs)
        return [
            Figure(
                f"{preset}: mean(Q - G) / sd(G) at the start, worst seed",
                worst,
                "standard deviations",
                goal=f"within {LARGEST_BIAS:g} of 0",
                met=abs(worst) <= LARGEST_BIAS,
            )
        ]
    ratios = [result.promise_ratio for result in results]
    return [
        Figure(
            f"{preset}: promised over discounted return, {which} seed",
            ratio,
            "ratio",
            goal=f"{LOWEST_RATIO:g} to {HIGHEST_RATIO:g}",
            met=LOWEST_RATIO <= ratio <= HIGHEST_RATIO,
        )
        for which, ratio in (("lowest", min(ratios)), ("highest", max(ratios)))
    ]


def main(arguments: list[str]) -> int:
    """Run the benchmark; 1 if a goal is not met."""
    torch.set_num_threads(1)
    settings = CliApp.run(PresetsBenchmark, cli_args=arguments)
    num_seeds = 1 if settings.quick else settings.seeds
    flags = ["--total-steps", str(_QUICK_STEPS)] if settings.quick else []
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(num_seeds):
            results.append(train_seed(settings.preset, seed, Path(folder) / str(seed), flags))
            print(results[-1], flush=True)
    figures = summarise(settings.preset, GOALS[settings.preset], results)
    print_figures(f"preset {settings.preset}", figures)
    if settings.quick:
        return 0
    command = ["python", "-m", "benchmarks.presets", *arguments]
    print("written to", write_result("presets", command, _PACKAGES, figures))
    return 0 if figures[0].met else 1


def _children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
