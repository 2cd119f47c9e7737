"""Other rules on the same returns: fixed thresholds, a t-test and a Mann-Whitney judge that peek.

Each takes canary returns [R, N] and the stable returns beside them [R, N, 9], and tells after how
many canary episodes it rolls back: [R], N + 1 where it never does.
"""

from collections.abc import Callable
from math import sqrt
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Rule = Callable[[Floats, Floats], Counts]

PEEK_EPISODES: Final = 20
"""The tests look after each so many canary episodes."""
_CRITICAL: Final = NormalDist().inv_cdf(0.99)
"""One-sided, at 1 %: the same that a rollout promises for all its looks together."""


class Threshold(NamedTuple):
    """Argo Rollouts' kind of analysis: a measurement a window, and so many failures allowed."""

    window_episodes: int
    failure_limit: int
    least_mean: float
    """A window whose mean return is lower has failed."""

    def __call__(self, canary: Floats, stable: Floats) -> Counts:
        """After how many canary episodes it rolls back."""
        means = window_means(canary, self.window_episodes)
        failures = (means < self.least_mean).cumsum(axis=1)
        return _first(failures > self.failure_limit, self.window_episodes, canary.shape[1])


def window_means(canary: Floats, window_episodes: int) -> Floats:
    """Mean return of each whole window, [R, N // window]."""
    runs, episodes = canary.shape
    whole = episodes // window_episodes * window_episodes
    means: Floats = canary[:, :whole].reshape(runs, -1, window_episodes).mean(axis=2)
    return means


def peeked_t_test(canary: Floats, stable: Floats) -> Counts:
    """Welch's test, one-sided, at every look as if it were the only one."""
    counts = np.arange(1, canary.shape[1] + 1)
    mean, variance = _moments(canary.cumsum(1), (canary**2).cumsum(1), counts)
    per_canary = stable.shape[2]
    other_mean, other_variance = _moments(
        stable.sum(2).cumsum(1), (stable**2).sum(2).cumsum(1), counts * per_canary
    )
    error = np.sqrt(variance / counts + other_variance / (counts * per_canary))
    score = (other_mean - mean) / np.maximum(error, 1e-12)
    looks = slice(PEEK_EPISODES - 1, None, PEEK_EPISODES)
    return _first(score[:, looks] > _CRITICAL, PEEK_EPISODES, canary.shape[1])


def peeked_mann_whitney(canary: Floats, stable: Floats) -> Counts:
    """Mann and Whitney's test with its correction for ties, one-sided, likewise."""
    runs, episodes = canary.shape
    is_worse = np.zeros((runs, episodes // PEEK_EPISODES), dtype=bool)
    for run in range(runs):
        for look in range(is_worse.shape[1]):
            seen = (look + 1) * PEEK_EPISODES
            score = _rank_score(canary[run, :seen], stable[run, :seen].ravel())
            is_worse[run, look] = score > _CRITICAL
    return _first(is_worse, PEEK_EPISODES, episodes)


def _rank_score(canary: Floats, stable: Floats) -> float:
    ordered = np.sort(stable)
    below = np.searchsorted(ordered, canary, "left").sum()
    upto = np.searchsorted(ordered, canary, "right").sum()
    one, other = len(canary), len(stable)
    # How often a stable return is above a canary's; ties count half.
    wins = one * other - (below + upto) / 2
    _, ties = np.unique(np.concatenate((canary, stable)), return_counts=True)
    total = one + other
    spread = one * other / 12 * (total + 1 - (ties**3 - ties).sum() / (total * (total - 1)))
    return float((wins - one * other / 2) / sqrt(max(spread, 1e-12)))


def _moments(sums: Floats, squares: Floats, counts: Counts) -> tuple[Floats, Floats]:
    mean = sums / counts
    variance = (squares / counts - mean**2) * counts / np.maximum(counts - 1, 1)
    return mean, np.maximum(variance, 0)


def _first(fires: npt.NDArray[np.bool_], step: int, episodes: int) -> Counts:
    found = (fires.argmax(axis=1) + 1) * step
    return np.where(fires.any(axis=1), found, episodes + 1)
