"""What the logs of several runs say together: curves with confidence bands, Q-values against truth.

Pure functions of numbers; `pictures` draws what they give.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from contract.manifest import RewardTransform
from training.environments import transform_rewards
from training.episode_log import EVALUATIONS_FILE, EvaluationRecord
from training.evaluate import Episode

Floats = npt.NDArray[np.float64]


class Curve(NamedTuple):
    """A statistic of several seeds along their runs."""

    steps: npt.NDArray[np.int64]
    """Environment steps at which all seeds have evaluations, [K]."""

    values: Floats
    """The interquartile mean over the seeds, [K]."""

    low: Floats
    """Lower end of the confidence band, [K]."""

    high: Floats


class Calibration(NamedTuple):
    """Q-values beside what came of them, one pair a step, [N] each."""

    q_values: Floats
    """Of the actions taken."""

    returns: Floats
    """Discounted and transformed, from that step on."""

    @property
    def bias(self) -> float:
        """mean(Q - G) / sd(G): how far Q-values lie above the returns, in their spread."""
        return float((self.q_values - self.returns).mean() / self.returns.std())


def interquartile_mean(values: npt.ArrayLike) -> float:
    """The mean of the middle half (Agarwal et al., 2021), values at its edges weighing in part."""
    ordered = np.sort(np.asarray(values, np.float64).ravel())
    count = len(ordered)
    # Where each value lies in [0, 1], and how much of that is within the middle half.
    starts, ends = np.arange(count) / count, (np.arange(count) + 1) / count
    weights = np.clip(np.minimum(ends, 0.75) - np.maximum(starts, 0.25), 0.0, None)
    return float((ordered * weights).sum() / weights.sum())


def stratified_bootstrap(
    scores: Sequence[Sequence[float]],
    rng: np.random.Generator,
    *,
    num_draws: int = 2_000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """A confidence interval of the interquartile mean of all scores (Agarwal et al., 2021).

    Args:
        scores: One row of seeds for each task; seeds are drawn within their task, with
            replacement, so that no draw is without a task.
        rng: Draws.
        num_draws: How many.
        confidence: Of the interval, which lies between percentiles of the draws.
    """
    rows = [np.asarray(row, np.float64) for row in scores]
    means = [
        interquartile_mean(
            np.concatenate([row[rng.integers(len(row), size=len(row))] for row in rows])
        )
        for _ in range(num_draws)
    ]
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(means, [tail, 100.0 - tail])
    return float(low), float(high)


def learning_curve(
    runs: Sequence[Sequence[EvaluationRecord]], rng: np.random.Generator, num_draws: int = 500
) -> Curve:
    """The interquartile mean of the seeds' returns at each step that one of them evaluated at.

    A seed that has stopped, for having reached its goal, counts with its last return; before its
    first evaluation none counts.

    Args:
        runs: The evaluations of each seed, oldest first.
        rng: Draws the bands.
        num_draws: Of the bootstrap at each step.

    Raises:
        ValueError: A run has no evaluations.
    """
    if not runs or not all(runs):
        raise ValueError("a run without evaluations has no curve")
    first = max(run[0].steps for run in runs)
    steps = np.array(sorted({record.steps for run in runs for record in run} - set(range(first))))
    scores = np.array([_returns_at(run, steps) for run in runs])
    bands = [
        stratified_bootstrap([column.tolist()], rng, num_draws=num_draws) for column in scores.T
    ]
    low, high = np.array(bands).T
    return Curve(steps, np.array([interquartile_mean(column) for column in scores.T]), low, high)


def calibration_of(
    episodes: Sequence[Episode], discount: float, transform: RewardTransform
) -> Calibration:
    """Each step's Q-value of the action taken, and the Monte-Carlo return from there on."""
    q_values, returns = [], []
    for episode in episodes:
        taken = episode.q_values[np.arange(len(episode.actions)), episode.actions]
        q_values.append(taken.astype(np.float64))
        returns.append(returns_to_go(episode, discount, transform))
    return Calibration(np.concatenate(q_values), np.concatenate(returns))


def returns_to_go(episode: Episode, discount: float, transform: RewardTransform) -> Floats:
    """Discounted and transformed return from each step on, [T].

    What a truncated episode would still have got is its last Q-value's word.
    """
    value = 0.0 if episode.terminated else float(episode.final_q_values.max())
    returns = np.empty(len(episode.actions))
    rewards = transform_rewards(episode.rewards, transform).tolist()
    for step in reversed(range(len(rewards))):
        value = rewards[step] + discount * value
        returns[step] = value
    return returns


def read_evaluations(run: Path) -> list[EvaluationRecord]:
    """The evaluations of a run's folder, oldest first; of several at one step the last."""
    path = run / EVALUATIONS_FILE
    if not path.exists():
        raise ValueError(f"{run}: no {EVALUATIONS_FILE}; is it the folder of a run?")
    records = [EvaluationRecord.model_validate_json(line) for line in path.read_text().splitlines()]
    return list({record.steps: record for record in records}.values())


def _returns_at(run: Sequence[EvaluationRecord], steps: npt.NDArray[np.int64]) -> list[float]:
    known = np.array([record.steps for record in run])
    latest = np.searchsorted(known, steps, side="right") - 1
    return [run[index].mean_return for index in latest]
