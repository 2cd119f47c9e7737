"""Kinds of episode returns that a rollout may meet, all in [0, 1]."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

Returns = npt.NDArray[np.float64]
Drop = float | Returns
"""By how much a policy is worse than stable at its best; one for all episodes, or one each."""
World = Callable[[np.random.Generator, Drop, int], Returns]
"""(generator, drop, how many) to returns."""
DRIFT_EPISODES: Final = 3000
"""Length of a swing that the returns of both variants share, as of day and night."""

_TIGHT_MEAN: Final = 0.6
_TIGHT_SD: Final = 0.12
_HIGH_SHARE: Final = 0.7
_HIGH: Final = 0.9
_LOW: Final = 0.2
_SPREAD: Final = 0.05
_SUCCESS: Final = 0.9


def tight(generator: np.random.Generator, drop: Drop, size: int) -> Returns:
    """Beta with standard deviation 0.12: most control tasks."""
    mean = _TIGHT_MEAN - drop
    strength = mean * (1 - mean) / _TIGHT_SD**2 - 1
    return generator.beta(mean * strength, (1 - mean) * strength, size)


def bimodal(generator: np.random.Generator, drop: Drop, size: int) -> Returns:
    """Episodes that go well and episodes that go wrong: a worse policy has more of the latter."""
    share = _HIGH_SHARE - drop / (_HIGH - _LOW)
    centre = np.where(generator.random(size) < share, _HIGH, _LOW)
    return np.clip(centre + generator.normal(0, _SPREAD, size), 0, 1)


def binary(generator: np.random.Generator, drop: Drop, size: int) -> Returns:
    """Success in nine of ten episodes."""
    return (generator.random(size) < _SUCCESS - drop).astype(np.float64)


WORLDS: Final[Mapping[str, World]] = {"tight": tight, "bimodal": bimodal, "binary": binary}


def swing(height: float, phase: Drop, episodes: Returns) -> Returns:
    """By how much the world is harder when each episode begins."""
    return height * np.sin(2 * np.pi * (phase + episodes / DRIFT_EPISODES))
