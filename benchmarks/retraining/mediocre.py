"""The policy that a drill begins with, and what any policy truly returns."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import gymnasium
import numpy as np
import numpy.typing as npt

from benchmarks.retraining.poles import EPISODE_STEPS, POLICY
from training.actor import q_function
from training.checkpoint import read_checkpoint

Act = Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]
"""From observations [N, 4] to actions [N]."""

_SOUGHT: Final = (80.0, 125.0)
_MOST_SEEDS: Final = 50
_STARTS: Final = 400
_FIRST_SEED: Final = 1_000_000
"""Of the starts: training and agents have others."""


def write_first_version(data: Path, declaration: Path) -> float:
    """Train until a return of about 100 and export that, by the commands; its true return.

    Learning goes by leaps, so that most seeds leave out what is sought.

    Raises:
        RuntimeError: No seed came upon it.
    """
    for seed in range(_MOST_SEEDS):
        out = data / "training" / f"seed-{seed}"
        _run(
            *("training", "--preset", "cartpole", "--seed", str(seed), "--out", str(out)),
            *("--target-return", "80", "--target-calibration", "1e6", "--no-tensorboard"),
            *("--evaluation-every-steps", "128", "--compile-updates", "never"),
        )
        found = float(true_returns(_greedy(out / "best")).mean())
        if _SOUGHT[0] <= found <= _SOUGHT[1]:
            break
    else:
        raise RuntimeError(f"no seed of {_MOST_SEEDS} came upon a return within {_SOUGHT}")
    _run(
        *("cli", "export", str(out / "best"), "--policy", POLICY),
        *("--repository", str(data / "policies"), "--declaration", str(declaration)),
    )
    return found


def true_returns(act: Act, num_starts: int = _STARTS) -> npt.NDArray[np.float64]:
    """Of a policy in a healthy world, each from a start that is the same for all, [num_starts]."""
    environments = [
        gymnasium.make("CartPole-v1", max_episode_steps=EPISODE_STEPS) for _ in range(num_starts)
    ]
    observations = np.stack(
        [each.reset(seed=_FIRST_SEED + place)[0] for place, each in enumerate(environments)]
    )
    lengths = np.zeros(num_starts)
    running = np.arange(num_starts)
    while len(running):
        actions = act(observations[running])
        lengths[running] += 1
        goes_on = np.ones(len(running), np.bool_)
        for place, (number, action) in enumerate(zip(running, actions, strict=True)):
            seen, _, terminated, truncated, _ = environments[number].step(int(action))
            observations[number] = seen
            goes_on[place] = not (terminated or truncated)
        running = running[goes_on]
    return lengths


def _greedy(checkpoint: Path) -> Act:
    q_values_of = q_function(read_checkpoint(checkpoint).network)
    return lambda observations: q_values_of(observations).argmax(axis=1)


def _run(module: str, *flags: str) -> None:
    subprocess.run([sys.executable, "-m", module, *flags], check=True, stdout=subprocess.DEVNULL)
