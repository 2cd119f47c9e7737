"""Tests that may be looked at after every observation: e-processes.

Wealth won by betting against a hypothesis. Where the hypothesis holds, the chance that the wealth
ever reaches 1/alpha is at most alpha (Ville's inequality), however often one looks.
"""

from collections.abc import Sequence
from math import exp, inf, lgamma, log, log1p
from typing import Final

_JEFFREYS: Final = 0.5
_LATENESS: Final = 0.2
"""The smaller, the more money is kept for late changes."""
_MOST_GROWTH: Final = 300.0
"""Of a logarithm, at once: beyond it nothing more is said, and floats end."""


class Wagers:
    """A mixture of constant bets on one stream of numbers, each with a share of the money."""

    __slots__ = ("_stakes", "log_wealth")

    def __init__(self, stakes: Sequence[float], log_wealth: Sequence[float] | None = None) -> None:
        self._stakes = tuple(stakes)
        self.log_wealth = [0.0] * len(self._stakes) if log_wealth is None else list(log_wealth)
        """Natural logarithm, one a stake."""

    def bet(self, payoff: float) -> None:
        """Take one observation: a payoff whose mean is at most 0 under the hypothesis.

        A stake times the least payoff must be above -1: no bet may lose more than all.
        """
        self.log_wealth = [
            wealth + log1p(stake * payoff)
            for stake, wealth in zip(self._stakes, self.log_wealth, strict=True)
        ]

    @property
    def log_evidence(self) -> float:
        """Natural logarithm of the mean wealth."""
        return log_mean_exp(self.log_wealth)


class ChangeWagers:
    """Bets that begin anew all the time: against "it never turns bad", whenever it does.

    Each moment has a share of the money, later ones less, and all shares sum to one; so here too
    the wealth reaches 1/alpha with a chance of at most alpha (a mixture over the time of change:
    Shiryaev, 1963; as an e-process: Shin, Ramdas and Rinaldo, 2022). What earlier bets lost is
    gone, and a change after n observations only has to make up for its share, about n**-1.2 / 5.
    """

    __slots__ = ("_num_observations", "_shares", "_wealth")

    def __init__(self, shares: Sequence[float]) -> None:
        """`shares` of the money for each way of betting; they sum to one."""
        self._shares = tuple(shares)
        self._wealth = [0.0] * len(self._shares)
        self._num_observations = 0

    def bet(self, log_growths: Sequence[float], observations: int = 1) -> None:
        """Take observations: by which factor each way of betting multiplies what is set on them.

        The expectation of a factor must be at most 1 under the hypothesis.
        """
        before, after = self._num_observations, self._num_observations + observations
        begun = (1 + before) ** -_LATENESS - (1 + after) ** -_LATENESS
        self._num_observations = after
        self._wealth = [
            (wealth + begun * share) * exp(min(growth, _MOST_GROWTH))
            for wealth, share, growth in zip(self._wealth, self._shares, log_growths, strict=True)
        ]

    @property
    def evidence(self) -> float:
        """What all of it has become."""
        return sum(self._wealth)


def log_mean_exp(values: Sequence[float]) -> float:
    """log(mean(exp(values))), without overflow."""
    top = max(values)
    return top + log(sum(exp(value - top) for value in values) / len(values))


def log_share_evidence(hits: int, misses: int, share: float) -> float:
    """Evidence against "each is a hit with probability `share`": a beta mixture, valid at any look.

    The mixture leans on `share`, so that a small departure from a small share is seen too.
    """
    if not 0 < share < 1:
        return inf if (hits if share <= 0 else misses) else 0.0
    first, second = max(100 * share, _JEFFREYS), max(100 * (1 - share), _JEFFREYS)
    return (
        _log_beta(first + hits, second + misses)
        - _log_beta(first, second)
        - hits * log(share)
        - misses * log1p(-share)
    )


def rate_upper_bound(hits: float, trials: int, alpha: float) -> float:
    """A bound that the rate of hits lies under at all times at once, but for a chance of `alpha`.

    The largest rate that a beta mixture (Jeffreys' prior; Robbins, 1970) has not refuted. A trial
    may be a hit in part: by convexity the bound holds for any numbers in [0, 1].
    """
    misses = trials - hits
    if misses <= 0:
        return 1.0
    mixture = _log_beta(_JEFFREYS + hits, _JEFFREYS + misses) - _log_beta(_JEFFREYS, _JEFFREYS)
    limit = -log(alpha)
    low, high = hits / trials, 1.0
    # 40 halvings leave an error below 1e-12; the bound errs to the safe side, upwards.
    for _ in range(40):
        middle = (low + high) / 2
        refuted = mixture - (hits * log(middle) if hits else 0.0) - misses * log1p(-middle) >= limit
        low, high = (low, middle) if refuted else (middle, high)
    return high


def _log_beta(first: float, second: float) -> float:
    return lgamma(first) + lgamma(second) - lgamma(first + second)
