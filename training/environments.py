"""The environments that actors walk: several of a kind, stepped together, each restartable."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from contract.declaration import ObservationSpec, Record
from contract.manifest import RewardTransform
from training.atari_options import NEXT_LIFE
from training.environment_name import frame_stack_of, make_environment
from training.replay import Transitions

Observations = npt.NDArray[Any]


class EnvironmentSpec(NamedTuple):
    """What an environment takes and gives."""

    observation: ObservationSpec
    num_actions: int


class EpisodeState(Record):
    """Where one environment stands: its episode, and what was done in it since its reset.

    Few environments let their inner state be saved; every one can be walked again, as an episode
    depends on nothing but its seed and its actions.
    """

    episode: int
    actions: tuple[int, ...]


class SeededEnvironment:
    """One environment whose every episode has a seed of its own, so that it can be repeated.

    The seed is made from `seed`, the environment's index among its siblings and the number of
    the episode.
    """

    def __init__(self, environment_id: str, seed: int, index: int) -> None:
        self._environment = make_environment(environment_id, for_training=True)
        self._seed = seed
        self._index = index
        self._episode = 0
        self._actions: list[int] = []
        self.observation: Observations = self._reset()

    def step(self, action: int) -> tuple[Observations, float, bool, bool]:
        """Act: the observation that follows, the reward, `terminated` and `truncated`.

        At an episode's end the next one begins: then `observation` is its first one, and what
        this returns is the last one of the episode that ended. Where a lost life counts as an
        end, the game goes on, and so do the episode's seed and actions.
        """
        next_observation, reward, terminated, truncated, info = self._environment.step(action)
        self._actions.append(action)
        self.observation = next_observation
        if terminated or truncated:
            self._episode += 1
            self.observation = self._reset()
        elif NEXT_LIFE in info:
            terminated = True
            self.observation = info[NEXT_LIFE]
        return next_observation, float(reward), bool(terminated), bool(truncated)

    def state(self) -> EpisodeState:
        """Where the environment stands."""
        return EpisodeState(episode=self._episode, actions=tuple(self._actions))

    def restore(self, state: EpisodeState) -> None:
        """Go to where `state` was taken, by walking its episode again."""
        self._episode = state.episode
        self.observation = self._reset()
        for action in state.actions:
            self.step(action)

    def close(self) -> None:
        """Free what the environment holds."""
        self._environment.close()

    def _reset(self) -> Observations:
        self._actions = []
        sequence = np.random.SeedSequence((self._seed, self._index, self._episode))
        observation, _ = self._environment.reset(seed=int(sequence.generate_state(1)[0]))
        return np.asarray(observation)


class Environments:
    """`num_environments` copies of one environment, stepped together."""

    goes_on = True

    def __init__(self, environment_id: str, num_environments: int, seed: int) -> None:
        self._environments = [
            SeededEnvironment(environment_id, seed, index) for index in range(num_environments)
        ]
        self.observations: Observations = self._observe()

    def __len__(self) -> int:
        return len(self._environments)

    def step(self, actions: npt.NDArray[np.int64]) -> Transitions:
        """Act in every environment, [N]; `observations` then holds what is seen next.

        Where an episode ended, `next_observations` has its last observation, and `observations`
        the first one of the next episode.
        """
        observations = self.observations
        next_observations, rewards, terminated, truncated = zip(
            *(
                environment.step(action)
                for environment, action in zip(self._environments, actions.tolist(), strict=True)
            ),
            strict=True,
        )
        self.observations = self._observe()
        return Transitions(
            observations=observations,
            actions=actions,
            rewards=np.array(rewards, np.float32),
            next_observations=np.array(next_observations),
            terminated=np.array(terminated),
            truncated=np.array(truncated),
        )

    def states(self) -> list[EpisodeState]:
        """Where each environment stands."""
        return [environment.state() for environment in self._environments]

    def restore(self, states: list[EpisodeState]) -> None:
        """Bring each environment to where `states` found it."""
        for environment, state in zip(self._environments, states, strict=True):
            environment.restore(state)
        self.observations = self._observe()

    def close(self) -> None:
        """Free what the environments hold."""
        for environment in self._environments:
            environment.close()

    def _observe(self) -> Observations:
        return np.array([environment.observation for environment in self._environments])


def describe_environment(environment_id: str) -> EnvironmentSpec:
    """Read an environment's spaces.

    Raises:
        ValueError: There is no such environment, or it is not one of discrete actions and array
            observations.
    """
    environment = make_environment(environment_id, for_training=True)
    observation_space, action_space = environment.observation_space, environment.action_space
    environment.close()
    if not isinstance(action_space, spaces.Discrete) or action_space.start != 0:
        raise ValueError(f"{environment_id}: actions are {action_space}, expected Discrete from 0")
    if not isinstance(observation_space, spaces.Box):
        raise ValueError(f"{environment_id}: observations are {observation_space}, expected a Box")
    return EnvironmentSpec(
        ObservationSpec.model_validate(
            {
                "shape": observation_space.shape,
                "dtype": observation_space.dtype.name,
                "low": _bounds(observation_space.low),
                "high": _bounds(observation_space.high),
                "frame_stack": frame_stack_of(environment_id),
            }
        ),
        int(action_space.n),
    )


def transform_rewards(
    rewards: npt.NDArray[np.float32], transform: RewardTransform
) -> npt.NDArray[np.float32]:
    """Rewards in the unit of the Q-values: clipped, then scaled."""
    if transform.clip is not None:
        rewards = rewards.clip(-transform.clip, transform.clip)
    return rewards * np.float32(transform.scale)


def _bounds(bounds: npt.NDArray[Any]) -> float | tuple[float, ...]:
    if np.issubdtype(bounds.dtype, np.floating):
        # JSON has no infinity; the largest finite number bounds as little.
        bounds = np.nan_to_num(bounds)
    values = tuple(bounds.astype(np.float64).ravel().tolist())
    return values[0] if len(set(values)) == 1 else values
