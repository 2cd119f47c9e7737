import numpy as np

from contract.join import Join, JoinRules
from contract.records import Column
from tests.builders import decision_batch, outcome, transition_record
from tests.contract.joining import (
    FOR_EVER,
    decide,
    episodes_in,
    join_all,
    observation,
    report,
    transitions_in,
)


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
