"""How high a cumulative sum must climb before it says something."""

import math

_OVERSHOOT = 1.166
"""By which a walk passes a bar, beyond it (Siegmund, 1985)."""


def cusum_limit(average_run: float, allowance: float) -> float:
    """The bar of a one-sided CUSUM of standard normal numbers.

    Args:
        average_run: Numbers between two false alarms.
        allowance: What is taken off each number before it is added.

    Returns:
        The bar; Siegmund's approximation, solved for it.
    """
    scaled = 1.0
    for _ in range(50):
        scaled = math.log(1 + scaled + 2 * allowance**2 * average_run)
    return scaled / (2 * allowance) - _OVERSHOOT
