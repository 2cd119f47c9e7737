from math import exp, log

import msgspec
import numpy as np
import pytest

from contract.assignment import Variant
from contract.evidence import (
    PROMOTION_EVIDENCE,
    ROLLBACK_EVIDENCE,
    STAKES,
    Evidence,
    Snapshot,
    block_size,
)

RANGE = (0.0, 100.0)


def evidence(snapshot: Snapshot | None = None) -> Evidence:
    return Evidence(0.05, RANGE, snapshot)


def feed(found: Evidence, canary: float, stable: float, blocks: int, share: float = 0.5) -> None:
    for _ in range(blocks):
        found.add("stable", stable, share)
        found.add("canary", canary, share)


def mixture(payoffs: list[float], stakes: list[float]) -> float:
    """Mean wealth, by the formula and not by logarithms."""
    return float(np.mean([np.prod([1 + stake * x for x in payoffs]) for stake in stakes]))


def test_two_blocks_give_the_wealth_that_the_formula_gives() -> None:
    found = evidence()
    # At a share of a quarter a block has three stable episodes.
    for stable in (50.0, 60.0, 10.0):
        found.add("stable", stable, 0.25)
    found.add("canary", 50.0, 0.25)
    for stable in (80.0, 80.0, 80.0):
        found.add("stable", stable, 0.25)
    found.add("canary", 20.0, 0.25)
    differences = [0.5 - 0.4, 0.2 - 0.8]
    ranks = [(1 + 0.5) / 3 - 0.5, 0.5]
    harm_by_mean = mixture([-each for each in differences], list(STAKES))
    harm_by_rank = mixture(ranks, [stake / 0.5 for stake in STAKES])
    good = mixture([each + 0.05 for each in differences], [stake / 0.95 for stake in STAKES])
    assert exp(found.log_rollback) == pytest.approx((harm_by_mean + harm_by_rank) / 2)
    assert exp(found.log_promotion) == pytest.approx(good)
    assert (found.num_blocks, found.blocks_at(0.25), found.blocks_at(0.5)) == (2, 2, 0)


@pytest.mark.parametrize(
    ("share", "size"), [(0.01, 9), (0.1, 9), (0.2, 4), (0.25, 3), (0.5, 1), (0.9, 1)]
)
def test_a_block_has_as_many_stable_episodes_as_there_are_for_one_canary_s(
    share: float, size: int
) -> None:
    assert block_size(share) == size


def test_a_canary_episode_waits_for_half_of_its_block() -> None:
    found = evidence()
    found.add("canary", 50.0, 0.1)
    for _ in range(4):
        found.add("stable", 50.0, 0.1)
    assert found.num_blocks == 0
    found.add("stable", 50.0, 0.1)
    assert found.num_blocks == 1


def test_a_stable_episode_is_compared_once_and_old_ones_are_let_go() -> None:
    found = evidence()
    for number in range(100):
        found.add("stable", float(number), 0.25)
    kept = found.snapshot().waiting_stable
    assert kept == [float(number) for number in range(82, 100)]
    found.add("canary", 50.0, 0.25)
    assert found.snapshot().waiting_stable == kept[3:]


def test_a_worse_canary_is_found_harmful_and_a_better_one_good() -> None:
    worse, better = evidence(), evidence()
    feed(worse, canary=40.0, stable=60.0, blocks=12)
    feed(better, canary=60.0, stable=40.0, blocks=30)
    assert (worse.is_harmful, worse.is_good) == (True, False)
    assert (better.is_harmful, better.is_good) == (False, True)
    assert worse.fires_by == "rank"
    assert worse.means() == (40.0, 60.0)


def test_returns_beyond_the_range_count_as_its_ends() -> None:
    found, clipped = evidence(), evidence()
    feed(found, canary=-1e9, stable=1e9, blocks=3)
    feed(clipped, canary=0.0, stable=100.0, blocks=3)
    assert found.log_rollback == clipped.log_rollback


def test_what_was_proven_stays_so_whatever_comes_later() -> None:
    found = evidence()
    feed(found, canary=40.0, stable=60.0, blocks=12)
    assert found.is_harmful
    feed(found, canary=100.0, stable=0.0, blocks=40)
    assert found.log_rollback < log(ROLLBACK_EVIDENCE)
    assert found.is_harmful


def test_without_a_return_range_ranks_can_condemn_and_nothing_can_promote() -> None:
    found = Evidence(0.05, None)
    feed(found, canary=1.0, stable=2.0, blocks=12)
    assert (found.is_harmful, found.fires_by) == (True, "rank")
    better = Evidence(0.05, None)
    feed(better, canary=2.0, stable=1.0, blocks=200)
    assert not better.is_good


def test_a_restart_in_the_middle_of_a_block_forgets_nothing() -> None:
    generator = np.random.default_rng(3)
    whole, resumed = evidence(), evidence()
    for _ in range(300):
        variant: Variant = "canary" if generator.random() < 0.2 else "stable"
        share = 0.1 if generator.random() < 0.5 else 0.25
        value = float(generator.normal(50, 20))
        for each in (whole, resumed):
            each.add(variant, value, share)
        kept = msgspec.json.encode(resumed.snapshot())
        resumed = evidence(msgspec.json.decode(kept, type=Snapshot))
    assert whole.snapshot() == resumed.snapshot()
    assert whole.num_blocks > 20


def test_a_split_that_is_not_the_planned_one_is_noticed() -> None:
    found = evidence()
    for _ in range(1000):
        found.add("stable", 50.0, 0.25)
    assert found.is_mismatched
    right = evidence()
    for number in range(1000):
        right.add("canary" if number % 4 == 0 else "stable", 50.0, 0.25)
    assert not right.is_mismatched


def test_an_equal_canary_is_seldom_condemned_and_a_bad_one_seldom_promoted() -> None:
    """Far fewer than the benchmark's 10,000, and enough to see a bet gone wrong."""
    generator = np.random.default_rng(11)
    condemned = promoted = 0
    for _ in range(200):
        same, worse = evidence(), evidence()
        for value in generator.random((300, 2)) < 0.9:
            stable, canary = map(float, value)
            feed(same, canary=100 * canary, stable=100 * stable, blocks=1)
            slipped = canary * float(generator.random() < 0.85 / 0.9)
            feed(worse, canary=100 * slipped, stable=100 * stable, blocks=1)
        condemned += same.is_harmful
        promoted += worse.is_good
    assert condemned <= 4
    assert promoted <= 14


def test_the_thresholds_are_those_of_one_and_of_five_in_a_hundred() -> None:
    assert (ROLLBACK_EVIDENCE, PROMOTION_EVIDENCE) == (100, 20)
