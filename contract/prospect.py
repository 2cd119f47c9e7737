"""How long a rollout takes, said before it starts and while it runs."""

from math import ceil, log
from typing import Final, NamedTuple

from contract.evidence import PROMOTION_EVIDENCE, Evidence
from contract.plan import RolloutPlan

EQUAL_CANARY_BLOCKS: Final = (113, 318)
"""Median of blocks until a canary that is as good as stable may be promoted: with returns close
together, and far apart. Simulated; `python -m benchmarks.canary` prints today's."""
HARM_BLOCKS: Final = (28, 136)
"""Median of blocks until a fall by a tenth of the return range is seen, likewise."""
_ENOUGH_BLOCKS: Final = 20
"""Fewer say too little of how fast evidence comes in."""


class Wait(NamedTuple):
    """What a stage waits for."""

    share: float
    hold_seconds: float
    blocks: int
    episodes: int
    """Of both variants, for so many blocks."""
    seconds: float | None
    """None where the traffic is not known."""


def waits(plan: RolloutPlan, episodes_per_second: float | None) -> list[Wait]:
    """What each stage of a plan waits for; the last one also for the evidence of an equal canary.

    Blocks gathered in earlier stages count towards the promotion.
    """
    found = []
    gathered = 0
    for number, stage in enumerate(plan.stages):
        blocks = stage.minimum_blocks
        if number == len(plan.stages) - 1:
            blocks = max(blocks, EQUAL_CANARY_BLOCKS[1] - gathered)
        gathered += blocks
        episodes = ceil(blocks / stage.share)
        seconds = None
        if episodes_per_second:
            seconds = max(stage.hold_seconds, episodes / episodes_per_second)
        found.append(Wait(stage.share, stage.hold_seconds, blocks, episodes, seconds))
    return found


def seconds_to_go(
    plan: RolloutPlan,
    stage: int,
    held_seconds: float,
    evidence: Evidence,
    episodes_per_second: float,
) -> float:
    """About how long until a canary that goes on as it did may be promoted."""
    total, gathered = 0.0, evidence.num_blocks
    blocks_left = blocks_to_promotion(evidence)
    for number in range(stage, len(plan.stages)):
        each = plan.stages[number]
        blocks, hold = each.minimum_blocks, each.hold_seconds
        if number == stage:
            blocks -= evidence.blocks_at(each.share)
            hold -= held_seconds
        if number == len(plan.stages) - 1:
            blocks = max(blocks, blocks_left - (gathered - evidence.num_blocks))
        blocks = max(blocks, 0)
        gathered += blocks
        total += max(hold, blocks / (each.share * episodes_per_second), 0.0)
    return total


def blocks_to_promotion(evidence: Evidence) -> int:
    """Blocks still needed, at the rate at which evidence has come in so far."""
    if evidence.is_good:
        return 0
    if evidence.num_blocks >= _ENOUGH_BLOCKS and evidence.log_promotion > 0:
        growth = evidence.log_promotion / evidence.num_blocks
        return ceil((log(PROMOTION_EVIDENCE) - evidence.log_promotion) / growth)
    return max(EQUAL_CANARY_BLOCKS[1] - evidence.num_blocks, 0)


def duration_in_words(seconds: float) -> str:
    """`40 s`, `25 min`, `3 h` or `2 days`: as exact as such an estimate is."""
    for unit, length, upto in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < upto:
            return f"{max(round(seconds / length), 1)} {unit}"
    return f"{round(seconds / 86_400)} days"
