"""Thresholds from the law that the statistics follow when nothing has changed."""

import math
from statistics import NormalDist


def chi2_quantile(tail: float, freedom: float) -> float:
    """The value that chi-squared exceeds with probability `tail` (Wilson and Hilferty, 1931).

    In the far tail it lies above the true one, on the side of silence: for a tail of 1e-6 by 2 % at
    10 degrees of freedom and by 10 % at 2.
    """
    spread = 2 / (9 * freedom)
    return float(freedom * (1 - spread + normal_quantile(tail) * math.sqrt(spread)) ** 3)


def mixture_quantile(tail: float, sums: tuple[float, float, float]) -> float:
    """The value that a weighted sum of squared standard normal numbers rarely exceeds.

    Args:
        tail: With which probability.
        sums: Of the weights, of their squares and of their cubes.

    Returns:
        The quantile by Pearson's three moments (Imhof, 1961): two moments alone would miss the long
        tail that one large weight makes.
    """
    first, second, third = sums
    freedom = second**3 / third**2
    return first + (chi2_quantile(tail, freedom) - freedom) * math.sqrt(second / freedom)


def normal_quantile(tail: float) -> float:
    """The value that a standard normal number exceeds with probability `tail`."""
    return -NormalDist().inv_cdf(tail)
