"""How epsilon and the learning rate change with environment steps."""

import math
from collections.abc import Callable

Schedule = Callable[[float, float, float], float]
"""From start, end and progress to the value now."""


def constant(start: float, end: float, progress: float) -> float:
    """Stay at `start`."""
    return start


def linear(start: float, end: float, progress: float) -> float:
    """Go from `start` to `end` in a straight line.

    Args:
        start: The value at progress 0.
        end: The value from progress 1 on.
        progress: Share of the schedule that has passed; beyond 1 counts as 1.
    """
    return start + (end - start) * min(progress, 1.0)


def exponential(start: float, end: float, progress: float) -> float:
    """Go from `start` to `end`, both positive, by the same factor in equal times."""
    return float(start * (end / start) ** min(progress, 1.0))


def cosine(start: float, end: float, progress: float) -> float:
    """Go from `start` to `end` along half a cosine wave (Loshchilov and Hutter, 2017)."""
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
