"""What interleaved pairs of measurements say of a difference, and how sure that is."""

import math
import statistics
from collections.abc import Sequence
from typing import Final, NamedTuple

_STUDENT_95: Final = {2: 6.314, 3: 2.920, 5: 2.132, 10: 1.833, 20: 1.729}
"""Pairs to the 95 % quantile of Student's t with one degree of freedom less."""
NUM_PAIRS: Final = tuple(_STUDENT_95)


class Bound(NamedTuple):
    """A mean and what it is at most, with 95 % confidence."""

    mean: float
    upper: float


def upper_bound(differences: Sequence[float]) -> Bound:
    """One-sided, for differences of pairs; as many as `NUM_PAIRS` has."""
    mean, count = statistics.fmean(differences), len(differences)
    error = statistics.stdev(differences) / math.sqrt(count)
    return Bound(mean, mean + _STUDENT_95[count] * error)
