"""Whole episodes of a policy, played side by side in environments of their own."""

from typing import Any, NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt

from contract.manifest import RewardTransform
from training.actor import QFunction, choose_actions
from training.environments import transform_rewards

FloatArray = npt.NDArray[np.float32]


class Episode(NamedTuple):
    """One whole episode of T steps."""

    observations: npt.NDArray[Any]
    """What was acted on, [T, ...]."""

    q_values: FloatArray
    """Of those observations, [T, num_actions]."""

    actions: npt.NDArray[np.int64]
    rewards: FloatArray
    """The environment's own, [T]."""

    terminated: bool
    """Whether it truly ended; else a limit cut it off."""

    final_q_values: FloatArray
    """Of the observation after the last step, [num_actions]."""


def play(
    q_values_of: QFunction, environment_id: str, num_episodes: int, epsilon: float, seed: int
) -> list[Episode]:
    """Play whole episodes side by side; episode i always begins from the same state."""
    rng = np.random.default_rng(seed)
    episode_seeds = np.random.SeedSequence(seed).generate_state(num_episodes)
    running = [_RunningEpisode(environment_id, int(episode_seed)) for episode_seed in episode_seeds]
    episodes = list(running)
    while running:
        q_values = q_values_of(np.array([episode.observation for episode in running]))
        actions = choose_actions(q_values, epsilon, rng)
        for episode, row, action in zip(running, q_values, actions.tolist(), strict=True):
            episode.step(row, action)
        running = [episode for episode in running if not episode.has_ended]
    return [episode.finish(q_values_of) for episode in episodes]


def discounted_return(
    episode: Episode, discount: float, reward_transform: RewardTransform
) -> float:
    """Discounted return from the start, in the unit of the Q-values.

    A truncated episode would have gone on: what it would have got is the last Q-value's word.
    """
    value = 0.0 if episode.terminated else float(episode.final_q_values.max())
    for reward in reversed(transform_rewards(episode.rewards, reward_transform).tolist()):
        value = reward + discount * value
    return value


class _RunningEpisode:
    def __init__(self, environment_id: str, seed: int) -> None:
        self._environment = gymnasium.make(environment_id)
        self.observation: npt.NDArray[Any] = self._environment.reset(seed=seed)[0]
        self.has_ended = False
        self._terminated = False
        self._observations: list[npt.NDArray[Any]] = []
        self._q_values: list[FloatArray] = []
        self._actions: list[int] = []
        self._rewards: list[float] = []

    def step(self, q_values: FloatArray, action: int) -> None:
        self._observations.append(self.observation)
        self._q_values.append(q_values)
        self._actions.append(action)
        self.observation, reward, terminated, truncated, _ = self._environment.step(action)
        self._rewards.append(float(reward))
        self._terminated = bool(terminated)
        self.has_ended = bool(terminated or truncated)
        if self.has_ended:
            self._environment.close()

    def finish(self, q_values_of: QFunction) -> Episode:
        return Episode(
            observations=np.array(self._observations),
            q_values=np.array(self._q_values),
            actions=np.array(self._actions),
            rewards=np.array(self._rewards, np.float32),
            terminated=self._terminated,
            final_q_values=q_values_of(self.observation[np.newaxis])[0],
        )
