"""Whatever the order of the records, and whichever are missing or there twice."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from contract.join import Join
from contract.records import Column, Record
from tests.builders import MODEL, decision_batch, outcome
from tests.contract.joining import (
    FOR_EVER,
    HEURISTIC,
    comparable,
    episodes_in,
    join_all,
    observation,
    transitions_in,
)


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
