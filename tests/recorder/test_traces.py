import numpy as np

from contract.drift_reference import make_columns
from contract.join import Join
from contract.records import Column, Record
from recorder.traces import Trace, Traces
from tests.builders import decision_batch, outcome

COLUMNS = make_columns(np.random.default_rng(1).standard_normal((2_000, 4)), np.full(20, 100))


def lived(num_steps: int, order: list[int] | None = None) -> Trace:
    """An episode through the join: step t observes t, is paid t, answers [t, -t]."""
    traces, join, found = Traces(lambda policy, version: COLUMNS), Join(), []
    records: list[Record] = []
    for step in order or range(num_steps):
        records.append(
            decision_batch(
                [[float(step)] * 4],
                actions=[0],
                decision_ids=[f"decision-{step}"],
                episode_ids=["episode-1"],
                steps=[step],
                q_values=Column.of(np.array([[step, -step]], dtype=np.float16)),
            )
        )
        is_last = step == num_steps - 1
        records.append(
            outcome(reward=float(step), episode_id="episode-1", step=step, terminated=is_last)
        )
    for record in records:
        found += [trace for item in join.add(record) if (trace := traces.add(item)) is not None]
    assert len(found) == 1
    return found[0]


def test_a_closed_episode_leaves_its_rewards_actions_and_q_values() -> None:
    trace = lived(3)
    assert trace.rewards.tolist() == [0.0, 1.0, 2.0]
    assert trace.actions.tolist() == [0, 0, 0]
    assert trace.chosen_q.tolist() == [0.0, 1.0, 2.0]
    assert trace.is_complete
    assert trace.episode_return == 3.0


def test_steps_stand_in_their_order_however_they_came() -> None:
    trace = lived(100, order=[*range(50, 100), *range(50)])
    assert trace.rewards.tolist() == [float(step) for step in range(100)]
    assert trace.cells[0] != trace.cells[99]


def test_the_last_observation_of_a_true_end_is_the_last_that_was_seen() -> None:
    trace = lived(3)
    assert trace.last_observation is not None
    assert trace.last_observation.tolist() == [2.0] * 4


def test_a_decision_without_an_episode_waits_for_nothing() -> None:
    traces, join = Traces(lambda policy, version: COLUMNS), Join()
    join.add(decision_batch(decision_ids=["lone"]))
    items = join.add(outcome(reward=1.0, decision_id="lone"))
    assert len(items) == 1
    assert traces.add(items[0]) is None
    assert traces.num_open == 0
