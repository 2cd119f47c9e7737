"""How long training takes until it is good, beside Stable-Baselines3 with rl-zoo's settings."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.report import Figure
from benchmarks.training.processes import run, train
from benchmarks.training.rivals.environments import Library
from training.checkpoint import read_checkpoint
from training.evaluate import EvaluationResult, evaluate_checkpoint

EPISODES = 400
"""Four times what the goals ask: of a hundred, mean(Q - G) is uncertain by a tenth of sd(G)."""
RIVAL_STEPS = 100_000
"""Of Stable-Baselines3 on LunarLander, in rl-zoo's settings."""

_FIRST_EVALUATION_SEED = 1_000_000


class Trained(NamedTuple):
    """One run of this project."""

    cpu_seconds: float
    """Of the whole command: start-up, compilation, evaluations."""

    result: EvaluationResult
    """Greedy episodes of its best checkpoint, which it has not seen."""


class Until(NamedTuple):
    """One run of a program that stops once it is good enough."""

    cpu_seconds: float
    """Of learning alone."""

    is_reached: bool


def train_preset(preset: str, seed: int, out: Path, flags: tuple[str, ...] = ()) -> Trained:
    """Train a preset and play what it has learned."""
    spent = train(out, ["--preset", preset, "--seed", str(seed), *flags])
    result = evaluate_checkpoint(
        read_checkpoint(out / "best"), EPISODES, 0.0, _FIRST_EVALUATION_SEED + seed
    )
    return Trained(spent.cpu_seconds, result)


def learn_until(
    command: Sequence[str | Path], target_return: float, steps: int, seeds: Sequence[int]
) -> list[Until]:
    """Let a program learn until it returns as much, or has done its steps, a run a seed."""
    found = []
    for seed in seeds:
        flags = ("--steps", str(steps), "--seed", str(seed), "--until", f"{target_return:g}")
        printed = run([*command, *flags]).printed
        reached = printed["reached"]
        found.append(
            Until(printed["cpu_seconds"], reached is not None and reached >= target_return)
        )
    return found


def cartpole_figures(
    runs: list[Trained], ours: list[Until], theirs: list[Until], title: str | None
) -> list[Figure]:
    """CPU seconds of learning to a return of 475, the median of as many seeds of both.

    Args:
        runs: Of this project, the whole preset, a run a seed.
        ours: As much of it as was needed for a look of 20 episodes to return 475.
        theirs: The same of Stable-Baselines3.
        title: Its name; None where it is not there.
    """
    good = sum(run.result.mean_return >= 475 for run in runs)
    spent = float(np.median([each.cpu_seconds for each in ours]))
    figures = [
        Figure(
            f"CartPole: seeds of {len(runs)} with a greedy return of at least 475",
            good,
            "seeds",
            goal=f"at least {len(runs)}",
            met=good == len(runs),
        ),
        Figure(
            "CartPole: CPU time of the whole command, median seed",
            float(np.median([run.cpu_seconds for run in runs])),
            "seconds",
        ),
    ]
    name = f"CartPole to 475: CPU time of learning, median of {len(ours)} seeds"
    if title is None:
        return [*figures, Figure(name, spent, "seconds")]
    rival = float(np.median([each.cpu_seconds for each in theirs]))
    there, as_many = (sum(each.is_reached for each in both) for both in (theirs, ours))
    return [
        *figures,
        Figure(
            name,
            spent,
            "seconds",
            goal=f"at most half of {title}'s",
            rival=f"{rival:.3g} s; {there} of its seeds got there, {as_many} of ours",
            ratio=rival / spent,
            met=2 * spent <= rival and as_many == len(ours),
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
