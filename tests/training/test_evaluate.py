from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from contract.manifest import RewardTransform
from tests.training.builders import CORRIDOR, register_corridor
from training.evaluate import Episode, EvaluationResult, discounted_return, evaluate, play


@pytest.fixture(autouse=True)
def _corridor() -> None:
    register_corridor()


def always_on(observations: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Values that prefer action 1 and promise 10 a cell."""
    values = np.zeros((len(observations), 2), np.float32)
    values[:, 1] = 10.0 * observations[:, 0]
    values[:, 0] = values[:, 1] - 1.0
    return values


def episode(terminated: bool) -> Episode:
    return Episode(
        observations=np.zeros((3, 1)),
        q_values=np.zeros((3, 2), np.float32),
        actions=np.zeros(3, np.int64),
        rewards=np.array([1.0, 2.0, 4.0], np.float32),
        terminated=terminated,
        final_q_values=np.array([8.0, 16.0], np.float32),
    )


def test_episodes_are_whole_and_recorded_step_by_step() -> None:
    for played in play(always_on, CORRIDOR, 6, epsilon=0.0, seed=0):
        start = int(played.observations[0, 0])
        steps = min(6 - start, 5)
        assert played.actions.tolist() == [1] * steps
        assert played.rewards.tolist() == [start + step + 1.0 for step in range(steps)]
        assert played.q_values[:, 1].tolist() == [10.0 * (start + step) for step in range(steps)]
        assert played.terminated == (start > 0)
        assert played.final_q_values[1] == 10.0 * (start + steps)


def test_a_terminated_episode_is_worth_its_rewards() -> None:
    assert discounted_return(episode(True), 0.5, RewardTransform()) == 1 + 1 + 1


def test_a_truncated_episode_is_worth_what_its_last_state_promises_too() -> None:
    assert discounted_return(episode(False), 0.5, RewardTransform()) == 3 + 16 / 8


def test_discounted_returns_are_in_the_unit_of_the_q_values() -> None:
    transform = RewardTransform(clip=2.0, scale=10.0)
    assert discounted_return(episode(True), 0.5, transform) == 10 + 10 + 5


def test_an_evaluation_sums_up_each_episode() -> None:
    result = evaluate(
        always_on, CORRIDOR, 20, 0.0, 3, discount=1.0, reward_transform=RewardTransform()
    )
    starts = [int(promise / 10) for promise in result.start_q_values]
    assert set(starts) == {0, 1, 2, 3}
    assert result.lengths == tuple(min(6 - start, 5) for start in starts)
    assert result.returns == tuple(
        float(sum(range(start + 1, start + 1 + min(6 - start, 5)))) for start in starts
    )
    # From cell 0 the limit cuts off in cell 5, which promises 50.
    assert result.start_returns[starts.index(0)] == 15.0 + 50.0


def test_the_promise_ratio_is_above_one_where_q_promises_too_much() -> None:
    result = evaluate(
        lambda observations: always_on(observations) + np.float32(1000.0),
        CORRIDOR,
        10,
        0.0,
        1,
        discount=0.9,
        reward_transform=RewardTransform(),
    )
    assert result.promise_ratio > 1.5


@pytest.mark.parametrize(
    ("promised", "target_return", "calibration", "meets"),
    [
        (11.0, 20.0, 0.125, True),
        (11.0, 20.5, 0.125, False),
        (12.0, 20.0, 0.125, False),
        (8.0, 20.0, 0.125, False),
        (12.0, 20.0, None, True),
    ],
)
def test_a_goal_is_met_by_good_returns_that_the_q_values_foretold(
    promised: float, target_return: float, calibration: float | None, meets: bool
) -> None:
    result = EvaluationResult(
        returns=(10.0, 30.0), lengths=(1, 1), start_q_values=(promised,), start_returns=(10.0,)
    )
    assert result.meets(target_return, calibration) == meets


def test_the_seed_alone_decides_an_evaluation_with_exploration() -> None:
    def lengths(seed: int) -> list[int]:
        return [len(played.actions) for played in play(always_on, CORRIDOR, 30, 0.5, seed)]

    assert lengths(1) == lengths(1)
    assert lengths(1) != lengths(2)
