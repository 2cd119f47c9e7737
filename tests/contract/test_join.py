import numpy as np
import pytest

from contract.join import Join, JoinRules
from contract.records import Column, Record
from contract.transitions import Episode, Transition
from tests.builders import MODEL, decision_batch, outcome, transition_record
from tests.contract.joining import (
    FOR_EVER,
    HEURISTIC,
    decide,
    episodes_in,
    join_all,
    observation,
    report,
    three_steps,
    transitions_in,
)


def test_terminated_episode_gives_its_transitions_and_then_itself() -> None:
    join = Join()
    *transitions, episode = join_all(join, three_steps(terminated=True))
    assert [item.reward for item in transitions_in(transitions)] == [1.0, 2.0, 4.0]
    assert [item.terminated for item in transitions_in(transitions)] == [False, False, True]
    assert episode == Episode(
        policy="cartpole",
        episode_id="e",
        ending="terminated",
        rewards=(1.0, 2.0, 4.0),
        is_complete=True,
        answered_by=(MODEL, HEURISTIC),
        started_at=100.0,
        ended_at=105.0,
    )
    assert isinstance(episode, Episode)
    assert episode.episode_return == 7.0
    assert join.counts == {
        "joined": 3,
        "duplicate": 0,
        "late": 0,
        "unknown": 0,
        "no_history": 0,
        "evicted": 0,
    }
    assert join.held_bytes == 0


def test_step_is_joined_to_what_was_seen_after_it() -> None:
    first, second, last = transitions_in(join_all(Join(), three_steps(terminated=True)))
    assert first.observation.tolist() == [10, -10]
    assert first.next_observation is not None
    assert first.next_observation.tolist() == second.observation.tolist() == [11, -11]
    assert last.next_observation is not None
    assert last.next_observation.tolist() == [0, 0]


def test_what_the_decision_says_is_in_the_transition() -> None:
    record = decide(
        "e",
        0,
        actions=[1],
        time=12.5,
        propensities=Column.of(np.array([0.25], dtype=np.float32)),
        q_values=Column.of(np.array([[1, 3]], dtype=np.float16)),
        answered_by=[MODEL, HEURISTIC],
        answered_by_index=[1],
    )
    (item,) = transitions_in(join_all(Join(), [record, report("e", 0, terminated=True)]))
    assert (item.action, item.propensity, item.time) == (1, 0.25, 12.5)
    assert (item.answered_by, item.schema_hash) == (HEURISTIC, "0123456789abcdef")
    assert item.q_values is not None
    assert item.q_values.tolist() == [1, 3]


def test_truncated_step_without_a_final_observation_has_no_next_one() -> None:
    records = [*three_steps(truncated=True), decide("e", 3, 13)]
    for order in (records, records[::-1]):
        items = join_all(Join(), order)
        last = max(transitions_in(items), key=lambda item: item.step)
        assert (last.next_observation, last.terminated, last.truncated) == (None, False, True)
        assert [episode.ending for episode in episodes_in(items)] == ["truncated"]


@pytest.mark.parametrize("ending", ["terminated", "truncated"])
def test_final_observation_is_what_follows_the_last_step(ending: str) -> None:
    last = {ending: True, "final_observation": Column.of(observation(77))}
    item = transitions_in(join_all(Join(), three_steps(**last)))[-1]
    assert item.next_observation is not None
    assert item.next_observation.tolist() == [77, -77]


def test_episode_that_is_both_terminated_and_truncated_has_terminated() -> None:
    (episode,) = episodes_in(join_all(Join(), three_steps(terminated=True, truncated=True)))
    assert episode.ending == "terminated"


def test_silent_episode_is_closed_as_timed_out_with_what_it_has() -> None:
    join = Join(JoinRules(episode_timeout_seconds=60.0))
    assert len(join_all(join, three_steps())) == 2
    assert join.close_silent(now=165.0) == []
    last, episode = join.close_silent(now=165.1)
    assert isinstance(last, Transition)
    assert (last.step, last.next_observation) == (2, None)
    assert (last.terminated, last.truncated) == (False, False)
    assert isinstance(episode, Episode)
    assert (episode.ending, episode.rewards, episode.is_complete) == (
        "timed_out",
        (1.0, 2.0, 4.0),
        False,
    )


def test_records_of_a_timed_out_episode_are_late_and_of_a_whole_one_duplicates() -> None:
    for last, counted in (({}, "late"), ({"terminated": True}, "duplicate")):
        join = Join()
        join_all(join, three_steps(**last))
        join.close_silent(FOR_EVER)
        assert join_all(join, three_steps(**last)) == []
        by_name = [outcome(decision_id="e-1"), outcome(decision_id="e-2")]
        assert join_all(join, by_name) == []
        join.close_silent(2 * FOR_EVER)
        # A step that was joined is joined, whatever became of its episode.
        expected = {"late": {"late": 6, "duplicate": 2}, "duplicate": {"duplicate": 8}}[counted]
        nothing = {
            "joined": 3,
            "duplicate": 0,
            "late": 0,
            "unknown": 0,
            "no_history": 0,
            "evicted": 0,
        }
        assert join.counts == nothing | expected


def test_outcome_for_a_decision_that_waited_in_vain_is_late() -> None:
    join = Join()
    join.add(decide("e", 0))
    (episode,) = join.close_silent(FOR_EVER)
    assert isinstance(episode, Episode)
    assert (episode.rewards, episode.is_complete) == ((), False)
    assert join.add(outcome(decision_id="e-0")) == []
    assert join.counts["late"] == 1


def test_gap_is_not_bridged_and_the_episode_is_not_complete() -> None:
    join = Join()
    records = three_steps(terminated=True)
    del records[2]
    items = join_all(join, records)
    assert [item.step for item in transitions_in(items)] == [2]
    items = join.close_silent(FOR_EVER)
    (first,) = transitions_in(items)
    assert (first.step, first.next_observation) == (0, None)
    (episode,) = episodes_in(items)
    assert (episode.ending, episode.rewards, episode.is_complete) == (
        "terminated",
        (1.0, 4.0),
        False,
    )
    assert join.counts["unknown"] == 1


def test_steps_after_the_end_do_not_stand_in_for_missing_ones() -> None:
    join = Join()
    records: list[Record] = [decide("e", step) for step in (0, 1, 3, 4, 5)]
    records += [report("e", 3), report("e", 4), report("e", 0)]
    join_all(join, records)
    assert episodes_in(join.add(report("e", 1, terminated=True)))
    assert join.counts["joined"] == 4
    join = Join()
    join_all(join, [decide("e", 3), decide("e", 4), report("e", 3), decide("e", 1)])
    assert not episodes_in(join.add(report("e", 1, terminated=True)))


def test_outcome_for_a_step_after_the_end_is_late_whether_it_comes_before_the_end_or_after() -> (
    None
):
    after_the_end: list[Record] = [decide("e", 1), report("e", 1)]
    for order in (
        [*after_the_end, decide("e", 0), report("e", 0, terminated=True)],
        [decide("e", 0), report("e", 0, terminated=True), after_the_end[1]],
    ):
        join = Join()
        items = join_all(join, order)
        assert [item.step for item in transitions_in(items)] == [0]
    join = Join()
    join_all(join, [*after_the_end, decide("e", 0), report("e", 0, terminated=True)])
    assert (join.counts["joined"], join.counts["late"]) == (1, 1)


def test_lone_decision_is_joined_by_its_id_to_one_transition_and_no_episode() -> None:
    join = Join()
    batch = decision_batch(
        [observation(1), observation(2)], decision_ids=["d"], episode_ids=[None, "e"]
    )
    items = join_all(join, [outcome(2.0, decision_id="d", row=0), batch])
    items += join_all(join, [outcome(3.0, decision_id="d", row=1), batch])
    assert [(item.episode_id, item.reward) for item in transitions_in(items)] == [
        ("decision:d/0", 2.0),
        ("decision:d/1", 3.0),
    ]
    assert all(item.next_observation is None for item in transitions_in(items))
    assert episodes_in(items) == []
    assert join.counts["duplicate"] == 2


def test_episode_id_that_looks_like_a_lone_decision_is_an_episode() -> None:
    items = join_all(Join(), [decide("decision:d/0", 0), report("decision:d/0", 0)])
    assert items == []


def test_outcome_that_names_both_is_joined_by_its_decision_id() -> None:
    named = report("e", 1, 5.0, decision_id="e-0", terminated=True)
    for order in ([named, decide("e", 0)], [decide("e", 0), named]):
        (item,) = transitions_in(join_all(Join(), order))
        assert (item.step, item.reward) == (0, 5.0)


def test_decision_id_used_for_two_steps_counts_once_and_breaks_nothing() -> None:
    join = Join()
    one = decide("e", 0)
    other = decide("f", 0, decision_ids=["e-0"])
    ends = [report("e", 0, terminated=True), report("f", 0, terminated=True)]
    assert len(join_all(join, [one, other, *ends])) == 2
    assert join.counts["duplicate"] == 1
    join.close_silent(FOR_EVER)
    assert join.counts["unknown"] == 1


def test_early_outcome_whose_decision_never_comes_is_unknown() -> None:
    join = Join(JoinRules(episode_timeout_seconds=60.0))
    join.add(outcome(decision_id="d", time=100.0))
    join.add(outcome(decision_id="d", time=100.0))
    join.close_silent(now=160.0)
    assert (join.counts["unknown"], join.counts["duplicate"]) == (0, 1)
    join.close_silent(now=160.1)
    assert join.counts["unknown"] == 1
    assert join.held_bytes == 0


def test_whole_transition_passes_through_once() -> None:
    join = Join()
    record = transition_record(truncated=True)
    (item,) = transitions_in(join_all(join, [record, record]))
    assert (item.episode_id, item.step, item.action, item.reward) == ("episode-1", 7, 1, 2.5)
    assert (item.propensity, item.truncated, item.terminated) == (0.25, True, False)
    assert item.answered_by.behaviour == "agent/1"
    assert item.next_observation is not None
    assert item.next_observation.tolist() == pytest.approx([0.5, 0.6, 0.7, 0.8])
    assert join.counts["duplicate"] == 1


def test_a_transition_knows_under_what_circumstances_was_decided() -> None:
    masks = np.array([[True, False], [True, True]])
    decided = decision_batch(
        [observation(1.0), observation(2.0)],
        decision_ids=["d"],
        row_counts=[2],
        action_masks=Column.of(masks),
        epsilon=0.05,
        tags=[None, {"region": "north"}],
        logged_share=0.5,
    )
    items = join_all(Join(), [decided, outcome(decision_id="d", row=1)])
    (transition,) = transitions_in(items)
    found = transition.circumstances
    assert found.action_mask is not None
    assert found.action_mask.tolist() == [True, True]
    assert (found.epsilon, found.tags, found.logged_share) == (0.05, {"region": "north"}, 0.5)
