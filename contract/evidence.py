"""What a rollout has learned of its canary: matched blocks of episodes, valid at every look.

Each canary episode is compared with the stable episodes around it. Two bets say that it is worse
(by its mean, by its rank), one that it is not worse by the margin. Drift that both share cancels
inside a block.
"""

from collections import deque
from collections.abc import Sequence
from math import inf, log
from typing import Final

import msgspec

from contract.assignment import Variant
from contract.sequential import Wagers, log_mean_exp, log_share_evidence

STAKES: Final = (0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
ROLLBACK_EVIDENCE: Final = 100.0
"""So many times likelier that the canary is worse: a false alarm in at most 1 % of rollouts."""
PROMOTION_EVIDENCE: Final = 20.0
"""A canary that is worse by the margin gets here in at most 5 % of rollouts."""
MISMATCH_EVIDENCE: Final = 2000.0
"""Beyond it the episodes are not split as they should be: what is compared is not alike."""
_MOST_STABLE: Final = 9
"""Stable episodes in a block, at most: more tell little more."""
_ROUNDING: Final = 1e-9


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence as the ledger keeps it: whoever restores it goes on as if never interrupted."""

    mean: list[float]
    """Log wealth of the bets on a lower mean, one a stake."""
    rank: list[float]
    promotion: list[float]
    log_rollback_peak: float
    log_promotion_peak: float
    blocks: list[tuple[float, int]]
    """(canary share, blocks completed at it)."""
    counts: list[tuple[float, int, int]]
    """(canary share, canary episodes, stable episodes) begun at it."""
    waiting_canary: list[tuple[float, float]]
    """(return, share) of episodes whose block is not full."""
    waiting_stable: list[float]
    canary_sum: float
    stable_sum: float
    """Of the returns of episodes counted."""
    left_out: int = 0
    """Episodes that more than one version answered."""


class Evidence:
    """Owns what has been compared. `add` episodes in the order in which they began."""

    def __init__(
        self,
        margin: float,
        return_range: tuple[float, float] | None,
        snapshot: Snapshot | None = None,
    ) -> None:
        """Without a return range only ranks are compared, and nothing can be promoted by it."""
        self._margin = margin
        self._range = return_range
        promotion_stakes = tuple(stake / (1 - margin) for stake in STAKES)
        rank_stakes = tuple(stake / 0.5 for stake in STAKES)
        found = snapshot or _NOTHING
        self._mean = Wagers(STAKES, found.mean)
        self._rank = Wagers(rank_stakes, found.rank)
        self._promotion = Wagers(promotion_stakes, found.promotion)
        self.log_rollback_peak = found.log_rollback_peak
        self.log_promotion_peak = found.log_promotion_peak
        self._blocks = dict(found.blocks)
        self._counts = {share: [canary, stable] for share, canary, stable in found.counts}
        self._canary: deque[tuple[float, float]] = deque(found.waiting_canary)
        self._stable: deque[float] = deque(found.waiting_stable, maxlen=2 * _MOST_STABLE)
        self._sums = {"canary": found.canary_sum, "stable": found.stable_sum}
        self.left_out = found.left_out

    def add(self, variant: Variant, episode_return: float, canary_share: float) -> None:
        """Take one finished episode that began while `canary_share` was in force."""
        counts = self._counts.setdefault(canary_share, [0, 0])
        self._sums[variant] += episode_return
        if variant == "canary":
            counts[0] += 1
            self._canary.append((episode_return, canary_share))
        else:
            counts[1] += 1
            self._stable.append(episode_return)
        while self._canary and 2 * len(self._stable) >= block_size(self._canary[0][1]):
            value, share = self._canary.popleft()
            # How many there are depends on no return, so that a smaller block is as fair as a
            # full one, and comes sooner.
            size = min(block_size(share), len(self._stable))
            self._compare(value, [self._stable.popleft() for _ in range(size)])
            self._blocks[share] = self._blocks.get(share, 0) + 1

    @property
    def num_blocks(self) -> int:
        """Canary episodes that have been compared."""
        return sum(self._blocks.values())

    def blocks_at(self, canary_share: float) -> int:
        """Canary episodes compared that began at a share."""
        return self._blocks.get(canary_share, 0)

    @property
    def num_episodes(self) -> int:
        """Episodes of both variants."""
        return sum(map(sum, self._counts.values()))

    @property
    def log_rollback(self) -> float:
        """Natural logarithm of the evidence that the canary is worse."""
        if self._range is None:
            return self._rank.log_evidence
        return log_mean_exp((self._mean.log_evidence, self._rank.log_evidence))

    @property
    def log_promotion(self) -> float:
        """Natural logarithm of the evidence that the canary is not worse by the margin."""
        return self._promotion.log_evidence if self._range is not None else -inf

    @property
    def fires_by(self) -> str:
        """Which comparison speaks louder against the canary: `mean` or `rank`."""
        if self._range is None or self._rank.log_evidence >= self._mean.log_evidence:
            return "rank"
        return "mean"

    @property
    def is_harmful(self) -> bool:
        """Evidence of harm has passed its threshold, at this look or an earlier one."""
        return self.log_rollback_peak >= log(ROLLBACK_EVIDENCE)

    @property
    def is_good(self) -> bool:
        """Evidence against "worse by the margin" has passed its threshold."""
        return self._range is not None and self.log_promotion_peak >= log(PROMOTION_EVIDENCE)

    @property
    def is_mismatched(self) -> bool:
        """The numbers of episodes belie the share: the comparison is not to be believed."""
        found = sum(
            log_share_evidence(canary, stable, share)
            for share, (canary, stable) in self._counts.items()
        )
        return found >= log(MISMATCH_EVIDENCE)

    def means(self) -> tuple[float | None, float | None]:
        """Mean return of the canary's and of stable's episodes."""
        canary = sum(counts[0] for counts in self._counts.values())
        stable = sum(counts[1] for counts in self._counts.values())
        return (
            self._sums["canary"] / canary if canary else None,
            self._sums["stable"] / stable if stable else None,
        )

    def snapshot(self) -> Snapshot:
        """All of it."""
        return Snapshot(
            mean=self._mean.log_wealth,
            rank=self._rank.log_wealth,
            promotion=self._promotion.log_wealth,
            log_rollback_peak=self.log_rollback_peak,
            log_promotion_peak=self.log_promotion_peak,
            blocks=list(self._blocks.items()),
            counts=[(share, canary, stable) for share, (canary, stable) in self._counts.items()],
            waiting_canary=list(self._canary),
            waiting_stable=list(self._stable),
            canary_sum=self._sums["canary"],
            stable_sum=self._sums["stable"],
            left_out=self.left_out,
        )

    def _compare(self, canary_return: float, stable_returns: Sequence[float]) -> None:
        below = sum(canary_return < value for value in stable_returns)
        ties = sum(canary_return == value for value in stable_returns)
        self._rank.bet((below + ties / 2) / len(stable_returns) - 0.5)
        if self._range is not None:
            stable = sum(map(self._normalised, stable_returns)) / len(stable_returns)
            difference = self._normalised(canary_return) - stable
            self._mean.bet(-difference)
            self._promotion.bet(difference + self._margin)
            self.log_promotion_peak = max(self.log_promotion_peak, self.log_promotion)
        self.log_rollback_peak = max(self.log_rollback_peak, self.log_rollback)

    def _normalised(self, value: float) -> float:
        assert self._range is not None
        low, high = self._range
        return (min(max(value, low), high) - low) / (high - low)


def block_size(canary_share: float) -> int:
    """Stable episodes that one canary episode is compared with, at most; at least half of them."""
    return min(_MOST_STABLE, max(1, int((1 - canary_share) / canary_share + _ROUNDING)))


_NOTHING: Final = Snapshot(
    mean=[0.0] * len(STAKES),
    rank=[0.0] * len(STAKES),
    promotion=[0.0] * len(STAKES),
    log_rollback_peak=0.0,
    log_promotion_peak=0.0,
    blocks=[],
    counts=[],
    waiting_canary=[],
    waiting_stable=[],
    canary_sum=0.0,
    stable_sum=0.0,
)
