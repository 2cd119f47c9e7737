from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.join import Join, JoinRules
from contract.records import Record
from contract.rewards import RewardRules
from contract.transitions import Episode, Transition
from tests.builders import outcome
from tests.contract.joining import (
    FOR_EVER,
    comparable,
    decide,
    episodes_in,
    join_all,
    report,
    transitions_in,
)


def join_with(**rules: Any) -> Join:
    return Join(JoinRules(rewards=RewardRules(**rules)))


def rewards(items: list[Transition | Episode]) -> list[float]:
    return [item.reward for item in transitions_in(items)]


def test_with_a_window_the_earliest_outcome_counts_and_not_the_first_to_come() -> None:
    join = join_with(window_seconds=60.0)
    records = [
        decide("e", 0, time=100.0),
        report("e", 0, 5.0, time=150.0, terminated=True),
        report("e", 0, 7.0, time=110.0, terminated=True),
    ]
    assert join_all(join, records) == []
    assert join.close_silent(160.0) == []
    items = join.close_silent(160.1)
    assert rewards(items) == [7.0]
    assert [episode.ending for episode in episodes_in(items)] == ["terminated"]
    assert join.held_bytes == 0


def test_with_sum_all_outcomes_in_the_window_make_the_reward() -> None:
    join = join_with(window_seconds=60.0, aggregate="sum")
    late = report("e", 0, 100.0, time=160.5)
    records = [
        report("e", 0, 2.0, time=110.0),
        report("e", 0, 1.0, time=160.0),
        decide("e", 0, time=100.0),
        decide("e", 1, time=120.0),
        late,
    ]
    join_all(join, records)
    items = join.close_silent(161.0)
    assert rewards(items) == [3.0]
    assert transitions_in(items)[0].reported_at == 160.0
    assert join.counts["late"] == 1
    join.add(report("e", 0, 50.0, time=130.0))
    assert join.counts["late"] == 2


def test_the_same_outcome_twice_is_not_summed() -> None:
    join = join_with(window_seconds=60.0, aggregate="sum")
    for name in ({"episode_id": "e", "step": 0}, {"decision_id": "e-1"}):
        repeated = outcome(2.0, time=110.0, **name)
        join_all(join, [repeated, repeated])
    join_all(join, [decide("e", 0, time=100.0), decide("e", 1, time=100.0)])
    join_all(join, [decide("e", 2, time=100.0)])
    assert rewards(join.close_silent(200.0)) == [2.0, 2.0]
    assert join.counts["duplicate"] == 2


def test_a_report_sent_again_is_summed_once_though_the_server_dates_it_anew() -> None:
    for order in (1, -1):
        join = join_with(window_seconds=60.0, aggregate="sum")
        for name in ({"episode_id": "e", "step": 0}, {"decision_id": "e-1"}):
            # The last is past the window, and what it repeats was in time.
            sent = [outcome(2.0, time=time, **name) for time in (110.0, 111.0, 170.0)]
            join_all(join, sent[::order])
        join_all(join, [decide("e", step, time=100.0) for step in range(3)])
        assert rewards(join.close_silent(200.0)) == [2.0, 2.0]
        assert (join.counts["duplicate"], join.counts["late"]) == (4, 0)


def test_equal_rewards_with_ids_of_their_own_are_summed_and_their_repeats_are_not() -> None:
    join = join_with(window_seconds=60.0, aggregate="sum")
    join.add(decide("e", 0, time=100.0))
    for outcome_id in ("click-1", "click-2", "click-1", None, None):
        join.add(report("e", 0, 1.0, time=110.0, outcome_id=outcome_id))
    assert rewards(join.close_silent(FOR_EVER)) == [3.0]
    assert join.counts["duplicate"] == 2


def test_an_outcome_past_the_window_is_late_whichever_came_first() -> None:
    for order in (1, -1):
        join = join_with(window_seconds=60.0)
        records: list[Record] = [decide("e", 0, time=100.0), report("e", 0, time=160.5)]
        join_all(join, records[::order])
        assert rewards(join.close_silent(FOR_EVER)) == []
        assert (join.counts["late"], join.unreported) == (1, {"cartpole": 1})


def test_a_step_without_an_outcome_gets_the_default_reward_once_its_window_is_over() -> None:
    join = join_with(window_seconds=60.0, default_reward=-0.5)
    join_all(join, [decide("e", 0, 10, time=100.0), decide("e", 1, 11, time=120.0)])
    assert join.close_silent(160.0) == []
    (first,) = transitions_in(join.close_silent(160.1))
    assert (first.step, first.reward, first.reported_at) == (0, -0.5, 160.0)
    assert first.next_observation is not None
    assert first.next_observation.tolist() == [11, -11]
    items = join.close_silent(FOR_EVER)
    assert rewards(items) == [-0.5]
    (episode,) = episodes_in(items)
    assert (episode.rewards, episode.ending, join.unreported) == ((-0.5, -0.5), "timed_out", {})


def test_an_end_that_is_told_too_late_for_its_reward_still_ends_the_episode() -> None:
    for order in (1, -1):
        join = join_with(window_seconds=60.0, default_reward=0.0)
        records: list[Record] = [
            decide("e", 0, time=100.0),
            report("e", 0, 9.0, time=170.0, terminated=True),
        ]
        join_all(join, records[::order])
        (item,) = transitions_in(items := join.close_silent(171.0))
        assert (item.reward, item.terminated) == (0.0, True)
        assert [episode.is_complete for episode in episodes_in(items)] == [True]


def test_a_lone_decision_gets_the_default_reward_too() -> None:
    join = join_with(window_seconds=60.0, default_reward=1.5)
    join.add(decide(None, None, time=100.0))
    (item,) = transitions_in(join.close_silent(161.0))
    assert (item.reward, item.terminated) == (1.5, False)


def test_each_policy_has_its_own_rules() -> None:
    rules = JoinRules(rewards_by_policy={"pong": RewardRules(window_seconds=60.0)})
    join = Join(rules)
    for policy in ("pong", "cartpole"):
        join.add(decide(policy, 0, time=100.0, policy=policy))
        join.add(report(policy, 0, time=110.0, terminated=True, policy=policy))
    assert join.counts["joined"] == 1
    assert [item.policy for item in transitions_in(join.close_silent(161.0))] == ["pong"]


def test_a_task_that_never_ends_is_cut_at_its_horizon_and_held_in_little_memory() -> None:
    join = join_with(horizon_steps=10)
    pieces, held = [], []
    for step in range(101):
        items = join.add(decide("e", step, time=100.0 + step))
        items += join.add(report("e", step, float(step // 10), time=100.5 + step))
        pieces += episodes_in(items)
        held.append(join.held_bytes)
    # Step 100 is open, and nothing older is needed to go on.
    assert join.open_since == 200.0
    assert [piece.episode_id for piece in pieces] == [f"e#{number}" for number in range(10)]
    assert {(piece.ending, piece.is_complete) for piece in pieces} == {("truncated", True)}
    assert [piece.episode_return for piece in pieces] == [10.0 * number for number in range(10)]
    assert (pieces[3].started_at, pieces[3].ended_at) == (130.0, 139.5)
    assert max(held[50:]) == max(held[10:50])
    assert join.counts["joined"] == 100
    join.add(report("e", 5))
    assert join.counts["duplicate"] == 1
    (last,) = episodes_in(join.close_silent(FOR_EVER))
    assert (last.episode_id, last.rewards, last.ending) == ("e#10", (10.0,), "timed_out")
    assert join.held_bytes == 0


def test_a_piece_with_a_hole_is_given_up_once_another_piece_has_passed() -> None:
    join = join_with(horizon_steps=2)
    items = [item for step in range(7) for item in join.add(decide("e", step))]
    items += join_all(join, [report("e", step) for step in (1, 2, 3, 4, 5)])
    pieces = [(piece.episode_id, piece.is_complete) for piece in episodes_in(items)]
    assert pieces == [("e#0", False), ("e#1", True), ("e#2", True)]
    assert join.unreported == {"cartpole": 1}
    join.add(outcome(decision_id="e-0"))
    assert join.counts["late"] == 1


def test_an_episode_that_ends_before_the_horizon_is_whole() -> None:
    join = join_with(horizon_steps=10)
    items = join_all(join, [decide("e", 0), report("e", 0, terminated=True)])
    assert [(each.episode_id, each.ending) for each in episodes_in(items)] == [("e", "terminated")]


@pytest.mark.parametrize(
    "rules",
    [
        {"default_reward": 0.0},
        {"aggregate": "sum"},
        {"window_seconds": 0.0},
        {"horizon_steps": 0},
    ],
)
def test_rules_that_say_nothing_sensible_are_refused(rules: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"window_seconds|horizon_steps"):
        RewardRules(**rules)


OUTCOMES = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 90), st.booleans()), max_size=8, unique=True
)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), told=OUTCOMES, aggregate=st.sampled_from(["earliest", "sum"]))
def test_with_a_window_the_rewards_do_not_depend_on_the_order(
    data: st.DataObject, told: list[tuple[int, int, bool]], aggregate: Any
) -> None:
    records: list[Record] = [decide("e", step, time=100.0 + step) for step in range(4)]
    for number, (step, delay, by_name) in enumerate(told):
        name = {"decision_id": f"e-{step}"} if by_name else {"episode_id": "e", "step": step}
        time = 100.0 + step + delay + number / 100
        records.append(outcome(2.0**number, time=time, **name))
    found = []
    for order in (records, data.draw(st.permutations(records))):
        join = join_with(window_seconds=60.0, default_reward=-1.0, aggregate=aggregate)
        items = join_all(join, order) + join.close_silent(FOR_EVER)
        found.append(comparable(items))
        in_time = [
            [2.0**number for number, (at, delay, _) in enumerate(told)
             if at == step and delay + number / 100 <= 60]
            for step in range(4)
        ]  # fmt: skip
        if aggregate == "sum":
            assert rewards(items) == [sum(each) if each else -1.0 for each in in_time]
        assert join.counts["late"] + sum(map(len, in_time)) == len(told)
        assert join.held_bytes == 0
    assert found[0] == found[1]
