"""What estimators say of policies, whichever way they estimate."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from training.network import QNetwork


class Basis(NamedTuple):
    """What estimates are held against, all in one unit."""

    logged_return: float
    """Mean of the log."""
    logged_standard_error: float
    return_range: float
    """What shares are of: the spread of the logged returns, or a tenth of their mean."""
    lowest_possible: float
    highest_possible: float
    behaviour_estimate: float
    """Of what acted in the log: held against `logged_return`."""
    current_estimate: float


class Estimate(NamedTuple):
    """What a candidate would return."""

    value: float
    advantage: float
    """Over the current policy, paired."""
    standard_error: float
    """Of the advantage."""
    left_share: float
    """Of its episodes, those that left what was logged; 0 where nothing is played."""


class Estimator(Protocol):
    """One way to estimate."""

    basis: Basis

    def estimate(self, candidates: Sequence[QNetwork]) -> list[Estimate]:
        """What candidates would return."""


def range_of(returns: npt.NDArray[np.float64]) -> float:
    """Between the lowest and the highest, at least a tenth of their mean and more than nothing."""
    return max(float(np.ptp(returns)), 0.1 * abs(float(returns.mean())), 1e-6)


def possible_returns(rewards: npt.NDArray[np.float32], horizon: float) -> tuple[float, float]:
    """The lowest and highest return of one step or more, with a margin of 2 %.

    A better policy may live longer than any that was logged, so that only the horizon bounds how
    much may come together.

    Args:
        rewards: That were logged.
        horizon: How many rewards count at most; the sum of their discounts.
    """
    sums = np.array([1.0, horizon])
    lowest = float((float(rewards.min()) * sums).min())
    highest = float((float(rewards.max()) * sums).max())
    # An estimator may err a little at the end of the range, where the best policies are.
    margin = 0.02 * max(abs(lowest), abs(highest))
    return lowest - margin, highest + margin
