from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.join import Join, JoinRules
from contract.records import AnsweredBy, Column, Outcome, Record
from contract.transitions import Episode, Transition
from tests.builders import MODEL, decision_batch, outcome, transition_record

HEURISTIC = AnsweredBy(3, "stable", "heuristic", "deadline", "heuristic/constant@844d4773fb1b")
FOR_EVER = 1e12


def observation(number: float) -> npt.NDArray[np.float32]:
    return np.array([number, -number], dtype=np.float32)


def decide(episode_id: str | None, step: int | None, number: float = 0.0, **changes: Any) -> Record:
    """A decision named `<episode>-<step>/0` that saw `observation(number)`."""
    return decision_batch(
        [observation(number)],
        episode_ids=[episode_id],
        steps=[step],
        **({"decision_ids": [f"{episode_id}-{step}"]} | changes),
    )


def report(episode_id: str, step: int, reward: float = 1.0, **changes: Any) -> Outcome:
    return outcome(reward, episode_id=episode_id, step=step, **changes)


def join_all(join: Join, records: Iterable[Record]) -> list[Transition | Episode]:
    return [item for record in records for item in join.add(record)]


def transitions_in(items: Iterable[Transition | Episode]) -> list[Transition]:
    return [item for item in items if isinstance(item, Transition)]


def episodes_in(items: Iterable[Transition | Episode]) -> list[Episode]:
    return [item for item in items if isinstance(item, Episode)]


def comparable(items: Iterable[Transition | Episode]) -> Counter[tuple[object, ...]]:
    """How often each item is there; arrays as text, so that they compare."""
    return Counter(
        tuple(
            repr(value.tolist()) if isinstance(value, np.ndarray) else value
            for value in vars(item).values()
        )
        for item in items
    )


def three_steps(**last: Any) -> list[Record]:
    """An episode `e` with rewards 1, 2 and 4 that ends as `last` says."""
    return [
        decide("e", 0, 10, time=100.0),
        report("e", 0, 1.0, time=101.0),
        decide("e", 1, 11, time=102.0, answered_by=[HEURISTIC]),
        report("e", 1, 2.0, time=103.0),
        decide("e", 2, 12, time=104.0),
        report("e", 2, 4.0, time=105.0, **last),
    ]


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
    assert join.counts == {"joined": 3, "duplicate": 0, "late": 0, "unknown": 0, "evicted": 0}
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
        nothing = {"joined": 3, "duplicate": 0, "late": 0, "unknown": 0, "evicted": 0}
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


def test_long_episode_does_not_keep_its_observations() -> None:
    join = Join()
    frame = np.zeros((1, 28_224), dtype=np.uint8)
    peak = 0
    for step in range(10_000):
        name = str(step)
        join.add(decision_batch(frame, decision_ids=[name], episode_ids=["e"], steps=[step]))
        join.add(report("e", step))
        peak = max(peak, join.held_bytes)
    assert join.counts["joined"] == 9_999
    assert peak < 3_000_000
    join.close_silent(FOR_EVER)
    assert join.held_bytes == 0


def test_observations_are_let_go_when_the_outcomes_come_backwards_too() -> None:
    join = Join()
    frame = np.zeros((1, 28_224), dtype=np.uint8)
    for step in range(50):
        join.add(decision_batch(frame, decision_ids=[str(step)], episode_ids=["e"], steps=[step]))
    assert join.held_bytes > 50 * 28_224
    join_all(join, [report("e", step) for step in reversed(range(49))])
    assert join.held_bytes < 2 * 28_224


def test_row_that_waits_does_not_hold_the_batch_it_came_in() -> None:
    join = Join()
    rows = 100
    batch = decision_batch(
        [observation(row) for row in range(rows)],
        row_counts=[rows],
        episode_ids=[f"e{row}" for row in range(rows)],
        steps=[0] * rows,
    )
    join.add(batch)
    for row in range(1, rows):
        join.add(report(f"e{row}", 0, terminated=True))
    (item,) = transitions_in(join.add(report("e0", 0, terminated=True)))
    assert item.observation.base is None
    assert item.q_values is not None
    assert item.q_values.base is None


def test_longest_silent_episode_is_evicted_and_counted() -> None:
    join = Join(JoinRules(max_open_episodes=2))
    records = [decide("a", 0), decide("b", 0), report("a", 0), decide("c", 0)]
    (episode,) = episodes_in(join_all(join, records))
    assert episode.episode_id == "b"
    assert join.counts["evicted"] == 1
    join.add(report("b", 0))
    assert join.counts["late"] == 1


def test_episode_that_is_never_reported_on_cannot_fill_the_memory() -> None:
    join = Join(JoinRules(max_held_bytes=10_000))
    join_all(join, [decide("e", step) for step in range(1000)])
    assert join.held_bytes <= 10_000
    assert join.counts["evicted"] == 1
    assert join.counts["late"] > 900


def test_outcomes_without_decisions_cannot_fill_the_memory() -> None:
    join = Join(JoinRules(max_open_episodes=3, max_held_bytes=5_000))
    final = Column.of(np.zeros(1000, dtype=np.uint8))
    join_all(join, [outcome(decision_id=str(n), final_observation=final) for n in range(5)])
    assert join.held_bytes <= 5_000
    join_all(join, [outcome(decision_id=str(n)) for n in range(10, 20)])
    assert join.counts["unknown"] == 12
    join.close_silent(FOR_EVER)
    assert (join.counts["unknown"], join.held_bytes) == (15, 0)


def test_repeats_are_recognised_as_long_as_the_rules_say() -> None:
    join = Join(JoinRules(remembered=2))
    assert join_all(join, [transition_record(transition_id=name) for name in "aba"])
    assert join.counts["duplicate"] == 1
    join_all(join, [transition_record(transition_id=name) for name in "cda"])
    assert (join.counts["duplicate"], join.counts["joined"]) == (1, 5)


@dataclass(frozen=True)
class Run:
    """An episode to be made into records."""

    length: int
    ending: str
    has_final: bool
    asks_once_more: bool
    by_name: bool
    is_lone: bool


RUNS = st.lists(
    st.builds(
        Run,
        length=st.integers(1, 4),
        ending=st.sampled_from(["terminated", "truncated"]),
        has_final=st.booleans(),
        asks_once_more=st.booleans(),
        by_name=st.booleans(),
        is_lone=st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


def records_of(runs: Sequence[Run], rows_a_batch: int) -> list[Record]:
    """Decisions of all runs mixed into batches, and an outcome for each but the extra ones."""
    rows: list[tuple[str | None, int | None, float]] = []
    records: list[Record] = []
    for number, run in enumerate(runs):
        name = None if run.is_lone else f"e{number}"
        for step in range(run.length + run.asks_once_more):
            rows.append((name, None if run.is_lone else step, 100.0 * number + step))
            if step == run.length:
                continue
            index = len(rows) - 1
            changes: dict[str, Any] = {"time": 2000.0 + index}
            if step == run.length - 1:
                changes[run.ending] = True
                if run.has_final:
                    changes["final_observation"] = Column.of(observation(77.0 + number))
            if run.by_name or run.is_lone:
                changes |= {"decision_id": f"d{index // rows_a_batch}", "row": index % rows_a_batch}
            else:
                changes |= {"episode_id": name, "step": step}
            records.append(outcome(2.0**step, **changes))
    for first in range(0, len(rows), rows_a_batch):
        batch = rows[first : first + rows_a_batch]
        records.append(
            decision_batch(
                [observation(number) for _, _, number in batch],
                decision_ids=[f"d{first // rows_a_batch}"],
                episode_ids=[name for name, _, _ in batch],
                steps=[step for _, step, _ in batch],
                time=1000.0 + first,
                answered_by=[HEURISTIC if first % 2 else MODEL],
            )
        )
    return records


@settings(max_examples=150, deadline=None)
@given(data=st.data(), runs=RUNS, rows_a_batch=st.integers(1, 5))
def test_any_order_and_any_repetition_give_each_transition_and_episode_once(
    data: st.DataObject, runs: list[Run], rows_a_batch: int
) -> None:
    records = records_of(runs, rows_a_batch)
    repeated = records + data.draw(st.lists(st.sampled_from(records), max_size=10))
    join = Join()
    items = join_all(join, data.draw(st.permutations(repeated)))
    episodes = {item.episode_id: item for item in episodes_in(items)}
    joined = {(item.episode_id, item.step): item for item in transitions_in(items)}
    lone_steps = sum(run.length for run in runs if run.is_lone)
    assert len(joined) == len(transitions_in(items)) == sum(run.length for run in runs)
    assert len([name for name, _ in joined if name.startswith("decision:")]) == lone_steps
    for number, run in enumerate(runs):
        if run.is_lone:
            assert f"e{number}" not in episodes
            continue
        episode = episodes.pop(f"e{number}")
        assert (episode.ending, episode.is_complete) == (run.ending, True)
        assert episode.rewards == tuple(2.0**step for step in range(run.length))
        for step in range(run.length):
            item = joined[f"e{number}", step]
            assert item.observation.tolist() == observation(100.0 * number + step).tolist()
            following = None if item.next_observation is None else item.next_observation[0]
            assert following == expected_next(run, number, step)
    assert episodes == {}
    assert comparable(items) == comparable(join_all(Join(), records))
    assert join.counts["joined"] == len(joined)
    assert join.counts["unknown"] == join.counts["late"] == join.counts["evicted"] == 0


def expected_next(run: Run, number: int, step: int) -> float | None:
    if step < run.length - 1:
        return 100.0 * number + step + 1
    if run.has_final:
        return 77.0 + number
    return 0.0 if run.ending == "terminated" else None


@settings(max_examples=100, deadline=None)
@given(data=st.data(), runs=RUNS, rows_a_batch=st.integers(1, 3))
def test_what_is_made_of_incomplete_records_does_not_depend_on_their_order(
    data: st.DataObject, runs: list[Run], rows_a_batch: int
) -> None:
    records = records_of(runs, rows_a_batch)
    kept = data.draw(st.lists(st.sampled_from(range(len(records))), unique=True))
    found = []
    for order in (sorted(kept), data.draw(st.permutations(kept + kept[:3]))):
        join = Join()
        items = join_all(join, [records[index] for index in order])
        found.append(comparable(items + join.close_silent(FOR_EVER)))
        assert join.held_bytes == 0
    assert found[0] == found[1]


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
