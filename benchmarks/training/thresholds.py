"""How long training takes until it is good, beside Stable-Baselines3 with rl-zoo's settings."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.report import Figure
from benchmarks.training.processes import run, train
from benchmarks.training.rivals.environments import Library
from training.checkpoint import read_checkpoint
from training.evaluate import EvaluationResult, evaluate_checkpoint

EPISODES = 100
RIVAL_STEPS = 100_000
"""Of Stable-Baselines3 on LunarLander, in rl-zoo's settings."""

_FIRST_EVALUATION_SEED = 1_000_000


class Trained(NamedTuple):
    """One run of this project."""

    cpu_seconds: float
    """Of the whole command: start-up, compilation, evaluations."""

    result: EvaluationResult
    """Greedy episodes of its best checkpoint, which it has not seen."""


def train_preset(preset: str, seed: int, out: Path, flags: tuple[str, ...] = ()) -> Trained:
    """Train a preset and play what it has learned."""
    spent = train(out, ["--preset", preset, "--seed", str(seed), *flags])
    result = evaluate_checkpoint(
        read_checkpoint(out / "best"), EPISODES, 0.0, _FIRST_EVALUATION_SEED + seed
    )
    return Trained(spent.cpu_seconds, result)


def cartpole_figures(runs: list[Trained], sb3: Library | None, *, steps: int) -> list[Figure]:
    """CPU seconds to a return of 475, the median of as many seeds of both."""
    ours = float(np.median([run.cpu_seconds for run in runs]))
    good = sum(run.result.mean_return >= 475 for run in runs)
    figures = [
        Figure(
            f"CartPole: seeds of {len(runs)} with a greedy return of at least 475",
            good,
            "seeds",
            goal=f"at least {len(runs)}",
            met=good == len(runs),
        )
    ]
    if sb3 is None:
        return [*figures, Figure("CartPole: CPU time, median seed", ours, "seconds")]
    theirs = [
        run(
            [
                *(sb3.python, *sb3.command, "--settings", "CartPole-v1"),
                *("--steps", str(steps), "--seed", str(seed), "--until", "475"),
            ]
        ).printed
        for seed in range(len(runs))
    ]
    rival = float(np.median([each["cpu_seconds"] for each in theirs]))
    reached = sum(each["reached"] is not None and each["reached"] >= 475 for each in theirs)
    return [
        *figures,
        Figure(
            "CartPole to 475: CPU time of the whole command, median seed",
            ours,
            "seconds",
            goal=f"at most half of {sb3.title}'s learning alone",
            rival=f"{rival:.0f} s; {reached} of {len(theirs)} seeds got there",
            ratio=rival / ours,
            met=2 * ours <= rival,
        ),
    ]


def lunarlander_figures(runs: list[Trained], sb3: Library | None, *, steps: int) -> list[Figure]:
    """Whether LunarLander is flown within the time that SB3 takes for its 100,000 steps.

    Args:
        runs: Of this project, a run a seed.
        sb3: Its environment, if there is one.
        steps: Of its steps so many are taken: from the first on each costs the same.
    """
    seconds = None
    if sb3 is not None:
        seconds = run(
            [
                *(sb3.python, *sb3.command, "--settings", "LunarLander-v3"),
                *("--environment", "LunarLander-v3", "--steps", str(steps)),
            ]
        ).printed["cpu_seconds"]
        seconds *= RIVAL_STEPS / steps
    good = sum(
        run.result.mean_return >= 220 and (seconds is None or run.cpu_seconds <= seconds)
        for run in runs
    )
    return [
        Figure(
            f"LunarLander: seeds of {len(runs)} with a greedy return of at least 220 in that time",
            good,
            "seeds",
            goal=f"at least {0.8 * len(runs):g}",
            rival=None
            if sb3 is None
            else f"{sb3.title}: {seconds:.0f} CPU s for {RIVAL_STEPS:,} steps",
            met=good >= 0.8 * len(runs),
        ),
        Figure(
            "LunarLander: CPU time, median seed",
            float(np.median([run.cpu_seconds for run in runs])),
            "seconds",
        ),
        Figure(
            "LunarLander: greedy return, median seed",
            float(np.median([run.result.mean_return for run in runs])),
            "return",
        ),
    ]
