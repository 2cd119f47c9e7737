import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest

from contract.declaration import ActionSpec, ObservationSpec
from service.errors import OverloadedError
from service.inference.questions import Answer
from tests import builders
from tests.service import models
from tests.service.asking import Asking, who

LEFT, RIGHT = [0.0, 0.0, -0.1, 0.0], [0.0, 0.0, 0.1, 0.0]
NUM_ROUND = 50


def rounding_policy(repository: Path) -> Path:
    """One number in, the nearest of the actions 0 to 49 out: the action tells the observation."""
    declared = builders.declaration(
        observation=ObservationSpec(shape=(1,)), actions=ActionSpec(count=NUM_ROUND)
    )
    # -(x - action)**2 is largest where |x - action| is least; x**2 is common to all actions.
    weights = [[2.0 * action] for action in range(NUM_ROUND)]
    bias = [-float(action**2) for action in range(NUM_ROUND)]
    return builders.write_policy(
        repository,
        declared,
        weights=weights,
        bias=bias,
        q_bound=None,
        observation=declared.observation,
    )


@pytest.mark.parametrize("runs_inline", [True, False])
def test_no_request_is_given_the_rows_of_another(tmp_path: Path, runs_inline: bool) -> None:
    directory = rounding_policy(tmp_path / "policies")
    rng = np.random.default_rng(5)

    async def scenario() -> None:
        asking = Asking(
            tmp_path,
            builders.declaration(
                observation=ObservationSpec(shape=(1,)), actions=ActionSpec(count=NUM_ROUND)
            ),
            batch_max_rows=32,
        )
        asking.serve(directory, runs_inline=runs_inline)
        wanted, told = [], []
        for number in range(400):
            actions = rng.integers(NUM_ROUND, size=rng.integers(1, 9))
            wanted.append(actions.tolist())
            told.append(asking.ask(actions[:, None] + rng.uniform(-0.4, 0.4)))
            if number % 60 == 0:
                await asyncio.sleep(0)
        answers = await asyncio.gather(*told)
        assert [each.actions for each in answers if isinstance(each, Answer)] == wanted
        logged = await asking.logged()
        assert sum(sum(batch.row_counts) for batch in logged) == sum(map(len, wanted))
        assert len(logged) < 400
        for batch in logged:
            seen = batch.observations.array()[:, 0].round().astype(int)
            np.testing.assert_array_equal(batch.actions.array(), seen)

    asyncio.run(scenario())


def test_what_waits_while_the_model_runs_is_the_next_batch(tmp_path: Path) -> None:
    directory = builders.write_policy(tmp_path / "policies")

    async def scenario() -> None:
        asking = Asking(tmp_path, batch_max_rows=4)
        asking.serve(directory, runs_inline=False)
        told = [asking.ask([LEFT, RIGHT]) for _ in range(5)]
        # Larger than a batch may be: it is not split, and runs alone.
        told.append(asking.ask([RIGHT] * 9))
        await asyncio.gather(*told)
        # Batches of 4, 4, 2 and 9 rows: one at most 2, two at most 4, one at most 16.
        histogram = asking.metrics.histogram("dqn_batch_rows", builders.POLICY)
        histogram.flush()
        assert [histogram.count_of(bucket) for bucket in range(5)] == [0, 1, 2, 0, 1]
        logged = await asking.logged()
        assert sum(sum(batch.row_counts) for batch in logged) == 19

    asyncio.run(scenario())


def test_the_heuristic_answers_by_the_deadline_while_the_model_still_runs(tmp_path: Path) -> None:
    directory = models.write_model(tmp_path / "policies", models.slow_model())

    async def scenario() -> None:
        asking = Asking(tmp_path)
        asking.serve(directory, runs_inline=False)
        patient = asking.ask([LEFT] * 64)
        await asyncio.sleep(0)
        running, waiting = asking.ask([LEFT], deadline_seconds=0.005), asking.ask([RIGHT])
        hasty = await running
        assert isinstance(hasty, Answer)
        assert who(hasty)[0].reason == "deadline"
        assert hasty.actions == [1]
        assert not patient.done()
        for late in (patient, waiting):
            answer = await late
            assert isinstance(answer, Answer)
            assert {entry.source for entry in who(answer)} == {"model"}
        logged = await asking.logged()
        assert sum(sum(batch.row_counts) for batch in logged) == 66
        assert not any(batch.is_late for batch in logged)

    asyncio.run(scenario())


def test_a_question_in_the_running_batch_is_answered_once_its_neighbours_by_the_model(
    tmp_path: Path,
) -> None:
    directory = models.write_model(tmp_path / "policies", models.slow_model())

    async def scenario() -> None:
        asking = Asking(tmp_path)
        asking.serve(directory, runs_inline=False)
        first, hasty, last = (
            asking.ask([LEFT, RIGHT] * 16),
            asking.ask([LEFT] * 3, deadline_seconds=0.02),
            asking.ask([RIGHT, RIGHT, LEFT]),
        )
        answers = await asyncio.gather(first, hasty, last)
        assert [answer.actions for answer in answers if isinstance(answer, Answer)] == [
            [0, 1] * 16,
            [1, 1, 1],
            [1, 1, 0],
        ]
        logged = await asking.logged()
        rows = [(sum(batch.row_counts), batch.is_late) for batch in logged]
        # What the model would have said is kept, as what it is.
        assert rows == [(3, False), (3, True), (35, False)]
        assert logged[1].actions.array().tolist() == [0, 0, 0]

    asyncio.run(scenario())


def test_a_pin_while_the_model_runs_answers_nobody_twice(tmp_path: Path) -> None:
    directory = models.write_model(tmp_path / "policies", models.slow_model())

    async def scenario() -> None:
        asking = Asking(tmp_path)
        asking.serve(directory, runs_inline=False)
        running = asking.ask([LEFT] * 64)
        await asyncio.sleep(0)
        hasty, waiting = asking.ask([LEFT], deadline_seconds=0.005), asking.ask([LEFT])
        await hasty
        asking.served.set_pinned(True)
        answers = await asyncio.gather(running, hasty, waiting)
        reasons = [who(answer)[0].reason for answer in answers if isinstance(answer, Answer)]
        assert reasons == [None, "deadline", "pinned"]
        assert asking.metrics.counter("dqn_in_flight_rows", builders.POLICY).value == 0
        await asking.logged()

    asyncio.run(scenario())


def test_a_request_whose_deadline_is_gone_does_not_wait_for_the_model(tmp_path: Path) -> None:
    directory = builders.write_policy(tmp_path / "policies")

    async def scenario() -> None:
        asking = Asking(tmp_path)
        asking.serve(directory)
        late, early = asking.ask([LEFT], deadline_seconds=-1.0), asking.ask([LEFT])
        answers = await asyncio.gather(late, early)
        reasons = [who(answer)[0].reason for answer in answers if isinstance(answer, Answer)]
        assert reasons == ["deadline", None]
        await asking.logged()

    asyncio.run(scenario())


def test_beyond_capacity_the_heuristic_answers_and_beyond_twice_it_nobody(tmp_path: Path) -> None:
    directory = builders.write_policy(tmp_path / "policies")

    async def scenario() -> None:
        asking = Asking(tmp_path, queue_max_rows=10)
        asking.serve(directory)
        waiting = asking.ask([LEFT] * 8)
        overflow = asking.ask([LEFT] * 6)
        with pytest.raises(OverloadedError, match="14 rows are waiting for policy cartpole"):
            asking.ask([LEFT] * 7)
        fits = asking.ask([LEFT] * 2)
        answers = await asyncio.gather(waiting, overflow, fits)
        reasons = [who(answer)[0].reason for answer in answers if isinstance(answer, Answer)]
        assert reasons == [None, "overload", None]
        assert asking.metrics.counter("dqn_shed_total", builders.POLICY).value == 7
        # The burst is over: there is room again.
        assert who(await asking.answer([LEFT] * 9))[0].reason is None
        await asking.logged()

    asyncio.run(scenario())


def test_a_lone_request_larger_than_the_queue_is_answered(tmp_path: Path) -> None:
    directory = builders.write_policy(tmp_path / "policies")

    async def scenario() -> None:
        asking = Asking(tmp_path, queue_max_rows=2)
        asking.serve(directory)
        assert who(await asking.answer([LEFT] * 50))[0].source == "model"
        await asking.logged()

    asyncio.run(scenario())


def test_the_event_loop_is_free_while_a_slow_model_runs(tmp_path: Path) -> None:
    directory = models.write_model(tmp_path / "policies", models.slow_model())

    async def scenario() -> None:
        asking = Asking(tmp_path)
        asking.serve(directory, runs_inline=False)
        told = asking.ask([LEFT] * 64)
        turns = 0
        while not told.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert turns > 5
        assert threading.active_count() > 1
        await asking.logged()

    asyncio.run(scenario())
