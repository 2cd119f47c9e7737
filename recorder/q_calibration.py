"""What the model promised against what came: Q-values beside discounted returns, in one unit."""

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from contract.drift_reference import Floats
from contract.manifest import RewardTransform
from recorder.traces import Trace

EVERY_STEPS: Final = 20
"""A promise is checked at an episode's first step and every so many after it."""
CONSISTENCY_STEPS: Final = 20
"""Steps over which a promise is held against the next one, without waiting for the end."""

NUM_DECILES: Final = 10

_WINDOW_PAIRS: Final = 2000
_MIN_PAIRS: Final = 50
_MOST_BORROWED: Final = 0.1
"""Of a return: how much of it may be the model's own word about what lay beyond a cut."""
_LEAST_SCALE: Final = 0.25
"""Of the mean return: the least sd that a gap is measured in."""


@dataclass(frozen=True)
class Calibration:
    """How far promises are off. Units are those of Q-values unless said otherwise."""

    num_pairs: int
    bias: float
    """Mean of promise less return, in sd of returns: above 0 the model promises too much."""
    slope: float
    """Of the return over the promise, least squares: 1 where promises tell states apart rightly."""
    error: float
    """Mean |promise - return| of deciles of the promise, over the range of returns."""
    deciles: tuple[tuple[float, float], ...]
    """Mean promise and mean return of each decile of the promise."""


class QCalibration:
    """Owns the latest 2,000 promises of one policy and variant, and what came of each."""

    def __init__(self) -> None:
        self._pairs: deque[tuple[float, float]] = deque(maxlen=_WINDOW_PAIRS)
        self._gaps: deque[float] = deque(maxlen=_WINDOW_PAIRS)

    def add(self, trace: Trace, discount: float, transform: RewardTransform) -> None:
        """Take one closed episode; parts of one say nothing of what came."""
        if not trace.is_complete:
            return
        rewards = np.array([transform.apply(reward) for reward in trace.rewards])
        self._pairs.extend(promises_and_returns(trace, rewards, discount))
        self._gaps.extend(consistency_gaps(trace, rewards, discount))

    @property
    def calibration(self) -> Calibration | None:
        """Of the latest promises; None below 50."""
        if len(self._pairs) < _MIN_PAIRS:
            return None
        return calibrate(*np.array(self._pairs).T)

    @property
    def consistency_gap(self) -> float | None:
        """Mean of a promise less what 20 steps and the promise after them say; None below 50."""
        return float(np.mean(self._gaps)) if len(self._gaps) >= _MIN_PAIRS else None


def promises_and_returns(
    trace: Trace, rewards: Floats, discount: float
) -> list[tuple[float, float]]:
    """(Q-value of the action taken, discounted return from there) every 20 steps.

    A cut episode would have gone on, so that its last Q-value stands for what would have come;
    steps of whose return that is more than a tenth are left out.
    """
    returns = rewards.copy()
    num_steps = len(rewards)
    is_cut = trace.ending != "terminated"
    if is_cut:
        returns[-1] = trace.chosen_q[-1]
    for step in range(num_steps - 2, -1, -1):
        returns[step] = rewards[step] + discount * returns[step + 1]
    steps = np.arange(0, num_steps, EVERY_STEPS)
    borrowed = discount ** (num_steps - 1 - steps) if is_cut else np.zeros(len(steps))
    is_known = np.isfinite(trace.chosen_q[steps]) & np.isfinite(returns[steps])
    kept = steps[is_known & (borrowed <= _MOST_BORROWED)]
    return list(zip(trace.chosen_q[kept].tolist(), returns[kept].tolist(), strict=True))


def consistency_gaps(trace: Trace, rewards: Floats, discount: float) -> list[float]:
    """Promise less (rewards of the next 20 steps and the promise after them), every 20 steps."""
    ahead = CONSISTENCY_STEPS
    powers = discount ** np.arange(ahead)
    gaps = [
        trace.chosen_q[step]
        - rewards[step : step + ahead] @ powers
        - discount**ahead * trace.best_q[step + ahead]
        for step in range(0, len(rewards) - ahead, EVERY_STEPS)
    ]
    return [float(gap) for gap in gaps if np.isfinite(gap)]


def calibrate(promises: Floats, returns: Floats) -> Calibration:
    """Sum up pairs, [N] each, at least ten."""
    # Returns that hardly vary (a pole that never falls) have no sd to be measured in.
    scale = max(float(returns.std()), _LEAST_SCALE * abs(float(returns.mean())), 1e-9)
    variance = float(promises.var())
    covariance = float(np.mean((promises - promises.mean()) * (returns - returns.mean())))
    order = np.argsort(promises, kind="stable")
    groups = np.array_split(order, NUM_DECILES)
    deciles = [(float(promises[g].mean()), float(returns[g].mean())) for g in groups]
    weights = np.array([len(group) for group in groups]) / len(promises)
    gaps = np.array([abs(promise - came) for promise, came in deciles])
    spread = max(float(np.ptp(returns)), _LEAST_SCALE * abs(float(returns.mean())), 1e-9)
    return Calibration(
        num_pairs=len(promises),
        bias=float((promises - returns).mean()) / scale,
        slope=covariance / variance if variance > 0 else 0.0,
        error=float(weights @ gaps) / spread,
        deciles=tuple(deciles),
    )
