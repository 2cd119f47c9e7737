import gymnasium
import numpy as np
import pytest

from contract.manifest import RewardTransform
from tests.training.builders import (
    CORRIDOR,
    CORRIDOR_LENGTH,
    CORRIDOR_TIME_LIMIT,
    register_corridor,
)
from training.environments import (
    Environments,
    SeededEnvironment,
    describe_environment,
    transform_rewards,
)


@pytest.fixture(autouse=True)
def _corridor() -> None:
    register_corridor()


def test_an_episode_that_ends_shows_its_own_last_observation_and_then_a_new_first_one() -> None:
    environments = Environments(CORRIDOR, 1, seed=0)
    start = int(environments.observations[0, 0])
    for _ in range(CORRIDOR_LENGTH - start - 1):
        assert not environments.step(np.array([1])).terminated[0]
    last = environments.step(np.array([1]))
    assert last.terminated.tolist() == [True]
    assert last.truncated.tolist() == [False]
    assert last.next_observations[0].tolist() == [CORRIDOR_LENGTH, CORRIDOR_LENGTH - start]
    assert environments.observations[0, 1] == 0.0
    assert environments.observations[0, 0] < 4


def test_a_time_limit_truncates_and_does_not_terminate() -> None:
    environments = Environments(CORRIDOR, 1, seed=0)
    start = environments.observations[0, 0]
    for _ in range(CORRIDOR_TIME_LIMIT):
        last = environments.step(np.array([0]))
    assert (last.terminated.tolist(), last.truncated.tolist()) == ([False], [True])
    assert last.next_observations[0].tolist() == [start, CORRIDOR_TIME_LIMIT]


def test_each_environment_gets_its_own_action_and_gives_its_own_reward() -> None:
    environments = Environments(CORRIDOR, 3, seed=1)
    cells = environments.observations[:, 0].copy()
    transitions = environments.step(np.array([1, 0, 1]))
    np.testing.assert_array_equal(transitions.observations[:, 0], cells)
    np.testing.assert_array_equal(transitions.next_observations[:, 0], cells + np.array([1, 0, 1]))
    np.testing.assert_array_equal(transitions.rewards, cells + np.array([1, 0, 1]))


def test_environments_and_episodes_begin_differently_and_repeatably() -> None:
    def first_cells() -> list[list[float]]:
        environments = Environments(CORRIDOR, 8, seed=5)
        firsts = [environments.observations[:, 0].tolist()]
        for _ in range(CORRIDOR_TIME_LIMIT):
            environments.step(np.zeros(8, np.int64))
        return [*firsts, environments.observations[:, 0].tolist()]

    first, second = first_cells()
    assert len(set(first)) > 1
    assert first != second
    assert first_cells() == [first, second]


@pytest.mark.parametrize("environment_id", ["CartPole-v1", "LunarLander-v3"])
def test_a_restored_environment_goes_on_bit_for_bit(environment_id: str) -> None:
    rng = np.random.default_rng(0)
    saved = Environments(environment_id, 2, seed=4)
    for _ in range(150):
        saved.step(rng.integers(2, size=2))
    restored = Environments(environment_id, 2, seed=4)
    restored.restore(saved.states())
    np.testing.assert_array_equal(saved.observations, restored.observations)
    for _ in range(100):
        actions = rng.integers(2, size=2)
        for found, expected in zip(restored.step(actions), saved.step(actions), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_state_holds_the_actions_of_the_episode_under_way_alone() -> None:
    environment = SeededEnvironment(CORRIDOR, seed=0, index=0)
    for action in (0, 0, 0, 0, 0, 1, 0):
        environment.step(action)
    assert environment.state().episode == 1
    assert environment.state().actions == (1, 0)


def test_spaces_are_described_with_infinite_bounds_as_the_largest_number() -> None:
    spec = describe_environment(CORRIDOR)
    largest = float(np.finfo(np.float32).max)
    assert spec.num_actions == 2
    assert spec.observation.shape == (2,)
    assert spec.observation.dtype == "float32"
    assert spec.observation.low == (0.0, -largest)
    assert spec.observation.high == (6.0, largest)


def test_continuous_actions_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="expected Discrete"):
        describe_environment("Pendulum-v1")


def test_rewards_are_clipped_before_they_are_scaled() -> None:
    rewards = np.array([-30.0, 2.0, 30.0], np.float32)
    transformed = transform_rewards(rewards, RewardTransform(clip=10.0, scale=0.5))
    assert transformed.tolist() == [-5.0, 1.0, 5.0]
    assert transform_rewards(rewards, RewardTransform()).tolist() == rewards.tolist()


def test_the_corridor_is_an_environment_gymnasium_accepts() -> None:
    gymnasium.make(CORRIDOR).reset(seed=0)
