import asyncio
from pathlib import Path

import numpy as np

from contract.bundle import Golden
from contract.declaration import ActionSpec
from contract.heuristics import ConstantHeuristic, PythonHeuristic, RandomHeuristic
from service.errors import FallbackRefusedError
from service.inference.questions import Answer
from tests import builders
from tests.service import models
from tests.service.asking import Asking, who

NAN_ROW, GOOD_ROW = [-1.0, 4.0, 0.0, 0.0], [9.0, 4.0, 0.0, 0.0]
"""For the model of square roots, whose Q-values are NaN, 2 and 3, 2."""


def test_a_row_of_nan_falls_back_alone(tmp_path: Path) -> None:
    directory = models.write_model(tmp_path / "policies", models.root_model(), models.root_golden())

    async def scenario() -> None:
        asking = Asking(tmp_path, builders.declaration(heuristic=RandomHeuristic()))
        asking.serve(directory)
        answer, neighbour = await asyncio.gather(
            asking.answer([GOOD_ROW, NAN_ROW, GOOD_ROW]), asking.answer([GOOD_ROW])
        )
        assert [entry.source for entry in who(answer)] == ["model", "heuristic", "model"]
        assert [entry.reason for entry in who(answer)] == [None, "non_finite", None]
        assert answer.actions[::2] == [0, 0]
        assert answer.propensities == [1.0, 0.5, 1.0]
        assert answer.q_values is not None
        np.testing.assert_array_equal(answer.q_values[:, 1], [2.0, np.nan, 2.0])
        # Who shares the batch is told nothing of it.
        assert neighbour.index is None
        assert [entry.source for entry in neighbour.answered_by] == ["model"]
        (batch,) = await asking.logged()
        assert batch.answered_by_index == [0, 1, 0, 0]
        assert [entry.behaviour.split("@")[0] for entry in batch.answered_by] == [
            "cartpole",
            "heuristic/random",
        ]
        assert batch.answered_by[1].reason == "non_finite"
        assert batch.answered_by[1].version == 1
        np.testing.assert_array_equal(batch.propensities.array(), [1.0, 0.5, 1.0, 1.0])
        assert batch.q_values is not None
        assert np.isnan(batch.q_values.array()[1]).all()

    asyncio.run(scenario())


def test_an_infinite_q_value_falls_back(tmp_path: Path) -> None:
    directory = builders.write_policy(tmp_path / "policies", q_bound=None)

    async def scenario() -> None:
        asking = Asking(tmp_path)
        asking.serve(directory)
        # Three times the largest numbers is beyond float32; the second is merely large.
        answer = await asking.answer([[0, 0, -3e38, 0], [0, 0, -1e37, 0]])
        assert [entry.reason for entry in who(answer)] == ["non_finite", None]
        assert answer.actions == [1, 0]
        await asking.logged()

    asyncio.run(scenario())


def test_a_q_value_beyond_the_bound_falls_back_and_one_at_it_does_not(tmp_path: Path) -> None:
    directory = models.write_model(
        tmp_path / "policies", models.root_model(), models.root_golden(), q_bound=5.0
    )

    async def scenario() -> None:
        asking = Asking(tmp_path)
        asking.serve(directory)
        answer = await asking.answer([[25.0, 0, 0, 0], [26.0, 0, 0, 0], [-1.0, 36.0, 0, 0]])
        assert [entry.reason for entry in who(answer)] == [None, "q_bound", "non_finite"]
        assert answer.actions == [0, 1, 1]
        await asking.logged()

    asyncio.run(scenario())


def test_the_declared_bound_goes_before_the_bundles(tmp_path: Path) -> None:
    declared = builders.declaration(q_bound=2.5)
    directory = models.write_model(
        tmp_path / "policies", models.root_model(), models.root_golden(), declared, q_bound=100.0
    )

    async def scenario() -> None:
        asking = Asking(tmp_path, declared)
        asking.serve(directory)
        answer = await asking.answer([GOOD_ROW, [4.0, 1.0, 0, 0]])
        assert [entry.reason for entry in who(answer)] == ["q_bound", None]
        await asking.logged()

    asyncio.run(scenario())


def test_who_wants_no_guess_is_told_so_and_its_neighbour_is_answered(tmp_path: Path) -> None:
    directory = models.write_model(tmp_path / "policies", models.root_model(), models.root_golden())

    async def scenario() -> None:
        asking = Asking(tmp_path)
        asking.serve(directory)
        refused, answered, guessed = await asyncio.gather(
            asking.ask([NAN_ROW], on_fallback="error"),
            asking.ask([GOOD_ROW], on_fallback="error"),
            asking.ask([NAN_ROW, GOOD_ROW]),
        )
        assert isinstance(refused, FallbackRefusedError)
        assert "non_finite" in str(refused)
        assert isinstance(answered, Answer)
        assert isinstance(guessed, Answer)
        assert [entry.source for entry in who(guessed)] == ["heuristic", "model"]
        await asking.logged()

    asyncio.run(scenario())


def test_the_constant_action_stands_in_for_a_heuristic_that_raises(tmp_path: Path) -> None:
    function = "tests.service.heuristics:always_raises"
    declared = builders.declaration(
        heuristic=PythonHeuristic(function=function),
        actions=ActionSpec(count=3, masked=True),
        constant_action=2,
    )

    async def scenario() -> None:
        asking = Asking(tmp_path, declared)
        rows = [[0.0] * 4] * 2
        answer = await asking.answer(rows, masks=[[1, 1, 1], [0, 1, 0]])
        assert answer.actions == [2, 1]
        assert [entry.reason for entry in who(answer)] == ["no_model"] * 2
        (batch,) = await asking.logged()
        assert batch.answered_by[0].behaviour == ConstantHeuristic(action=2).behaviour
        assert batch.answered_by[0].version is None

    asyncio.run(scenario())


def test_a_model_that_fails_to_run_costs_its_batch_only_the_model(tmp_path: Path) -> None:
    directory = models.write_model(
        tmp_path / "policies", models.follower_model(), positive_golden()
    )

    async def scenario() -> None:
        asking = Asking(tmp_path)
        asking.serve(directory)
        # It would answer two rows for these three, and so one with another's action.
        answer = await asking.answer([[1, 0, -1, 0], [-1, 0, 1, 0], [1, 0, -1, 0]])
        assert [entry.reason for entry in who(answer)] == ["model_error"] * 3
        assert answer.actions == [1, 1, 1]
        assert (await asking.answer([[1, 0, -1, 0]])).actions == [0]
        await asking.logged()

    asyncio.run(scenario())


def positive_golden() -> Golden:
    golden = builders.golden()
    observations = np.abs(golden.observations)
    weights, bias = models.linear_constants().values()
    return Golden(observations, observations @ weights.T + bias)


def test_the_mask_is_obeyed_by_model_and_heuristic(tmp_path: Path) -> None:
    declared = builders.declaration(
        actions=ActionSpec(count=2, masked=True), heuristic=ConstantHeuristic(action=0)
    )
    directory = builders.write_policy(tmp_path / "policies", declared)

    async def scenario() -> None:
        asking = Asking(tmp_path, declared)
        right = [0.0, 0.0, 0.1, 0.0]
        assert (await asking.answer([right], masks=[[False, True]])).actions == [1]
        asking.serve(directory)
        masked, free = await asyncio.gather(
            asking.answer([right, right], masks=[[True, False], [True, True]]),
            asking.answer([right]),
        )
        assert masked.actions == [0, 1]
        assert free.actions == [1]
        # The action that was taken is counted, not the one the mask forbade.
        asking.metrics.flush()
        counts = [
            asking.metrics.counter("dqn_actions_total", builders.POLICY, "stable", action).value
            for action in ("0", "1")
        ]
        assert counts == [1, 2]
        batch = (await asking.logged())[-1]
        assert batch.action_masks is not None
        # What was answered before may be in the same record.
        assert batch.action_masks.array().tolist()[-3:] == [
            [True, False],
            [True, True],
            [True, True],
        ]

    asyncio.run(scenario())
