"""Stacks of three frames whose steps come as their newest frame alone, all but step 0."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.join import Join, JoinRules
from contract.records import Column, DecisionBatch, Record
from contract.rewards import RewardRules
from contract.stacks import Histories
from contract.transitions import Transition
from tests.builders import decision_batch, outcome
from tests.contract.joining import (
    FOR_EVER,
    comparable,
    episodes_in,
    join_all,
    report,
    transitions_in,
)

DEPTH = 3


def frame(step: int) -> npt.NDArray[np.uint8]:
    """What fills the first stack, below step 0, differs too: each frame is known by its place."""
    return np.array([10 + step, 0], np.uint8)


def stack(step: int) -> list[list[int]]:
    return [frame(each).tolist() for each in range(step - DEPTH + 1, step + 1)]


def step_record(step: int, *, is_whole: bool = False, **changes: Any) -> Record:
    """A decision as the service logs it; `is_whole` as it did before it logged newest frames."""
    if step == 0 or is_whole:
        seen, depth = np.array(stack(step), np.uint8), 1
    else:
        seen, depth = frame(step), DEPTH
    return seen_at(step, seen, frame_stack=depth, **changes)


def seen_at(step: int, seen: npt.NDArray[np.uint8], **changes: Any) -> Record:
    return decision_batch(
        seen[None], decision_ids=[f"e-{step}"], episode_ids=["e"], steps=[step], **changes
    )


def episode_records(length: int, **last: Any) -> list[Record]:
    records: list[Record] = [step_record(step) for step in range(length)]
    records += [report("e", step, 2.0**step) for step in range(length - 1)]
    return [*records, report("e", length - 1, 2.0 ** (length - 1), **last)]


def as_lists(seen: npt.NDArray[Any] | None) -> list[list[int]] | None:
    return None if seen is None else seen.tolist()


def check_stacks(items: Sequence[Transition]) -> None:
    """What was seen is the true stack, and what followed is too, where it is known."""
    for item in items:
        assert as_lists(item.observation) == stack(item.step)
        if item.next_observation is not None and not item.terminated:
            assert as_lists(item.next_observation) == stack(item.step + 1)


def test_stacks_come_out_as_they_were_acted_on() -> None:
    items = join_all(Join(), episode_records(6, truncated=True))
    check_stacks(transitions_in(items))
    assert [item.step for item in transitions_in(items)] == list(range(6))
    assert [episode.is_complete for episode in episodes_in(items)] == [True]


def test_one_final_frame_ends_the_last_stack() -> None:
    ends = {"truncated": True, "final_observation": Column.of(frame(4))}
    last = transitions_in(join_all(Join(), episode_records(4, **ends)))[-1]
    assert as_lists(last.next_observation) == stack(4)


def test_a_whole_final_stack_is_taken_as_it_is() -> None:
    whole = Column.of(np.array(stack(9), np.uint8))
    ends = {"truncated": True, "final_observation": whole}
    last = transitions_in(join_all(Join(), episode_records(4, **ends)))[-1]
    assert as_lists(last.next_observation) == stack(9)


def test_what_follows_a_true_end_has_the_shape_of_a_stack() -> None:
    last = transitions_in(join_all(Join(), episode_records(4, terminated=True)))[-1]
    assert as_lists(last.next_observation) == [[0, 0]] * DEPTH


def test_steps_whose_frames_are_lost_are_left_out_and_counted() -> None:
    join = Join()
    records = [each for each in episode_records(7, terminated=True) if each != step_record(2)]
    items = join_all(join, records) + join.close_silent(FOR_EVER)
    joined = transitions_in(items)
    check_stacks(joined)
    # Of step 2 there is no decision, and it stands in the stacks of steps 3 and 4.
    assert [item.step for item in joined] == [0, 5, 6, 1]
    assert joined[-1].next_observation is None
    assert (join.counts["no_history"], join.counts["unknown"]) == (2, 1)
    (episode,) = episodes_in(items)
    assert (episode.is_complete, episode.ending) == (False, "terminated")
    assert join.held_bytes == 0


def test_a_frame_that_comes_last_completes_all_stacks_it_stands_in() -> None:
    join = Join()
    late = step_record(1)
    records = [each for each in episode_records(4, terminated=True) if each != late]
    assert join_all(join, records) == []
    items = join.add(late)
    check_stacks(transitions_in(items))
    assert sorted(item.step for item in transitions_in(items)) == list(range(4))
    assert [episode.is_complete for episode in episodes_in(items)] == [True]


def test_an_episode_that_is_met_in_its_midst_begins_once_its_stack_is_known() -> None:
    join = Join()
    records = [step_record(step) for step in range(5, 9)]
    records += [report("e", step, 1.0) for step in range(5, 9)]
    items = join_all(join, records) + join.close_silent(FOR_EVER)
    check_stacks(transitions_in(items))
    assert [item.step for item in transitions_in(items)] == [7, 8]
    assert join.counts["no_history"] == 2


def test_frames_of_stacks_that_came_whole_are_known_too() -> None:
    records: list[Record] = [step_record(step, is_whole=step < 3) for step in range(6)]
    records += [report("e", step, 1.0, terminated=step == 5) for step in range(6)]
    items = join_all(Join(), records)
    check_stacks(transitions_in(items))
    assert [item.step for item in transitions_in(items)] == list(range(6))


def test_a_frame_of_another_shape_is_not_put_into_a_stack() -> None:
    join = Join()
    odd = seen_at(1, np.zeros(3, np.uint8), frame_stack=DEPTH)
    records = [odd if each == step_record(1) else each for each in episode_records(4)]
    items = transitions_in(join_all(join, records) + join.close_silent(FOR_EVER))
    assert [item.step for item in items] == [0]
    assert join.counts["no_history"] == 3


def test_a_long_episode_holds_few_frames() -> None:
    join = Join()
    held = []
    first = seen_at(0, np.zeros((DEPTH, 7_056), np.uint8))
    join_all(join, [first, report("e", 0)])
    for step in range(1, 1000):
        join.add(seen_at(step, np.zeros(7_056, np.uint8), frame_stack=DEPTH))
        join.add(report("e", step))
        held.append(join.held_bytes)
    assert join.counts["joined"] == 999
    # Each finished step costs its own 200 bytes.
    assert max(held) < 6 * 7_056 + 1000 * 250
    join.close_silent(FOR_EVER)
    assert join.held_bytes == 0


def test_the_first_stacks_of_a_piece_reach_into_the_piece_before() -> None:
    join = Join(JoinRules(rewards=RewardRules(horizon_steps=2)))
    items = []
    for step in range(9):
        items += join.add(step_record(step))
        items += join.add(report("e", step, 1.0))
    check_stacks(transitions_in(items))
    assert [item.step for item in transitions_in(items)] == list(range(8))
    pieces = [(piece.episode_id, piece.is_complete) for piece in episodes_in(items)]
    assert pieces == [(f"e#{number}", True) for number in range(4)]


def test_an_unreported_step_of_a_piece_that_is_cut_still_lends_its_frame() -> None:
    join = Join(JoinRules(rewards=RewardRules(horizon_steps=2)))
    items = join_all(join, [step_record(step) for step in range(7)])
    items += join_all(join, [report("e", step) for step in (0, 4, 5, 2, 3)])
    check_stacks(transitions_in(items))
    assert sorted(item.step for item in transitions_in(items)) == [0, 2, 3, 4, 5]
    join.close_silent(FOR_EVER)
    assert (join.counts["no_history"], join.held_bytes) == (0, 0)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), length=st.integers(1, 7), ending=st.sampled_from(["terminated", None]))
def test_no_order_and_no_loss_makes_a_wrong_stack(
    data: st.DataObject, length: int, ending: str | None
) -> None:
    records = episode_records(length, **({ending: True} if ending else {}))
    kept = data.draw(st.lists(st.sampled_from(range(len(records))), unique=True))
    found = []
    for order in (sorted(kept), data.draw(st.permutations(kept + kept[:3]))):
        join = Join()
        items = join_all(join, [records[place] for place in order])
        items += join.close_silent(FOR_EVER)
        check_stacks(transitions_in(items))
        found.append(comparable(items))
        assert join.held_bytes == 0
        told = join.counts["joined"] + join.counts["no_history"] + join.counts["unknown"]
        assert told + join.counts["late"] == sum(place >= length for place in kept)
    assert found[0] == found[1]


def test_an_early_outcome_of_a_step_without_history_is_not_lost_twice() -> None:
    join = Join()
    early = outcome(1.0, decision_id="e-4")
    items = join_all(join, [early, step_record(4)]) + join.close_silent(FOR_EVER)
    assert transitions_in(items) == []
    assert (join.counts["no_history"], join.counts["unknown"], join.held_bytes) == (1, 0, 0)


def test_stacks_are_made_whole_as_an_ordered_log_is_read() -> None:
    histories = Histories()
    found = {}
    for step in (0, 1, 2, 3, 5, 6, 7):
        batch = step_record(step)
        assert isinstance(batch, DecisionBatch)
        rows, observations = histories.whole_rows(batch)
        found[step] = [as_lists(each) for each in observations]
        assert rows == ([0] if observations else [])
    assert found == {step: [stack(step)] for step in (0, 1, 2, 3, 7)} | {5: [], 6: []}
