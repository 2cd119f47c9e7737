import random
from uuid import UUID

from contract.assignment import (
    Split,
    assign,
    choose_variant,
    split_in_force,
    time_in_id,
    with_split,
)
from dqn_client.episodes import new_episode_id

IDS = [f"episode-{number}" for number in range(4000)]


def test_a_share_is_the_part_of_episodes_that_are_canary() -> None:
    chosen = [choose_variant(name, "r1", 0.25) for name in IDS]
    assert 0.23 < chosen.count("canary") / len(IDS) < 0.27
    assert {choose_variant(name, "r1", 0.0) for name in IDS} == {"stable"}
    assert {choose_variant(name, "r1", 1.0) for name in IDS} == {"canary"}


def test_who_is_canary_at_a_share_is_canary_at_every_larger_one() -> None:
    small = {name for name in IDS if choose_variant(name, "r1", 0.05) == "canary"}
    large = {name for name in IDS if choose_variant(name, "r1", 0.25) == "canary"}
    assert small < large


def test_the_canaries_of_one_rollout_are_not_those_of_the_next() -> None:
    first = {name for name in IDS if choose_variant(name, "r1", 0.1) == "canary"}
    second = {name for name in IDS if choose_variant(name, "r2", 0.1) == "canary"}
    assert len(first & second) < 0.2 * len(first)


def test_the_client_s_episode_ids_say_when_they_were_made() -> None:
    assert time_in_id(new_episode_id(1_700_000_000.25)) == 1_700_000_000.25


def test_other_ids_say_no_time() -> None:
    four = str(UUID(int=random.Random(3).getrandbits(128), version=4))
    for name in ("", "agent-7", four, "x" * 14 + "7" + "x" * 21):
        assert time_in_id(name) is None


def test_an_episode_is_split_as_when_it_began_whatever_came_later() -> None:
    splits = (Split(100.0, 1), Split(200.0, 1, 2, 1.0, "r"), Split(300.0, 2))
    assert assign(splits, "e", 199.9)[:2] == (1, "stable")
    assert assign(splits, "e", 200.0)[:2] == (2, "canary")
    assert assign(splits, "e", 299.9)[:2] == (2, "canary")
    assert assign(splits, "e", 300.0)[:2] == (2, "stable")
    assert [assign(splits, "e", began).canary_share for began in (199.0, 200.0, 300.0)] == [0, 1, 0]
    # Older than all that is remembered: as the oldest split says.
    assert assign(splits, "e", 5.0)[:2] == (1, "stable")


def test_before_any_promotion_an_episode_is_nobody_s() -> None:
    assert split_in_force((), 5.0) is None
    assert assign((), "e", 5.0)[:2] == (None, "stable")


def test_a_clock_that_is_behind_does_not_reorder_the_ledger() -> None:
    splits = with_split(with_split((), Split(200.0, 1)), Split(150.0, 2))
    assert [split.effective_at for split in splits] == [200.0, 200.0]
    assert assign(splits, "e", 200.0)[:2] == (2, "stable")


def test_splits_that_ended_a_day_ago_are_let_go_and_the_one_in_force_then_is_kept() -> None:
    splits: tuple[Split, ...] = ()
    for effective_at, version in ((0.0, 1), (100.0, 2), (200.0, 3), (86_550.0, 4)):
        splits = with_split(splits, Split(effective_at, version))
    assert [split.stable for split in splits] == [2, 3, 4]
