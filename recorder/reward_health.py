"""Whether episodes still return what training's did: whole episodes, for late is not low."""

import math
from dataclasses import dataclass
from typing import Final

from contract.cusum import cusum_limit
from contract.manifest import Profile

FALL: Final = 0.1
"""Share of what the policy earns over the heuristic whose loss is to be told soon."""
EPISODES_PER_FALSE_ALARM: Final = 100_000

_REFERENCE_SDS: Final = 2.33
"""By which training's mean may have been too high: one profile in a hundred."""
_LARGEST: Final = 3.0
"""An episode counts for no more sd than this: one disaster is not a fall."""
_LEAST_SD: Final = 0.01
_CAP: Final = 1.1


@dataclass(frozen=True)
class ReturnReference:
    """What an episode should return."""

    mean: float
    sd: float
    floor: float
    """What the heuristic returns."""
    num_episodes: int

    @classmethod
    def of(cls, profile: Profile, floor: float | None) -> "ReturnReference":
        """From a bundle's profile; without a measured floor it is 0, as in the article."""
        returns = profile.episode_return
        return cls(returns.mean, returns.sd, floor or 0.0, max(returns.count, 1))

    @property
    def limit(self) -> float:
        """Below it the policy earns less than 80 % of what it did in training, over the floor."""
        return self.floor + 0.8 * (self.mean - self.floor)


class ReturnWatch:
    """A one-sided CUSUM on the returns of one variant, set for a fall by a tenth.

    It begins anew with each version. After how many episodes a fall is told depends on how much
    returns vary: `expected_delay` says.
    """

    def __init__(self, reference: ReturnReference) -> None:
        self._expected = reference.mean
        earned = abs(reference.mean - reference.floor)
        self._sd = max(reference.sd, _LEAST_SD * max(earned, abs(reference.mean)), 1e-9)
        # Training's own mean is known within this: a policy is not accused of the difference.
        self._benefit = _REFERENCE_SDS / math.sqrt(reference.num_episodes)
        shift = min(FALL * earned / self._sd, _LARGEST) - self._benefit
        self._allowance = max(shift, 0.1) / 2
        self.threshold = cusum_limit(EPISODES_PER_FALSE_ALARM, self._allowance)
        self.score = 0.0
        self.num_episodes = 0

    @property
    def expected_delay(self) -> float:
        """Episodes until a fall by a tenth is told, about."""
        return self.threshold / self._allowance

    @property
    def is_falling(self) -> bool:
        """Episodes return less than they should, and not by chance."""
        return self.score >= self.threshold

    def add(self, episode_return: float) -> None:
        """Take one whole episode of the model's."""
        below = min((self._expected - episode_return) / self._sd, _LARGEST) - self._benefit
        self.score = min(max(0.0, self.score + below - self._allowance), _CAP * self.threshold)
        self.num_episodes += 1
