"""How good a policy is, and all that its episodes show."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, PositiveInt, ValidationError
from pydantic_settings import CliApp, CliPositionalArg
from rich.console import Console

from contract.declaration import Record
from contract.manifest import RewardTransform
from training.actor import QFunction, choose_actions, q_function
from training.checkpoint import Checkpoint, CheckpointError, read_checkpoint
from training.environment_name import make_environment
from training.environments import transform_rewards
from training.flags import Flags

_FEATURE_ROWS = 4096
"""Rows of one forward pass for features: enough to be fast, few enough for frames to fit."""

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


class Rollout(NamedTuple):
    """Greedy or nearly greedy episodes of a checkpoint, one after another; N steps in all."""

    observations: npt.NDArray[Any]
    """[N, ...]."""

    q_values: FloatArray
    """[N, num_actions]."""

    features: FloatArray
    """The penultimate layer, [N, feature_size]."""

    actions: npt.NDArray[np.int64]
    rewards: FloatArray
    """The environment's own, [N]."""

    returns: FloatArray
    """Undiscounted return of each episode, [num_episodes]."""

    lengths: npt.NDArray[np.int64]
    """Steps of each episode, [num_episodes]; they add up to N."""


class EvaluationResult(Record):
    """What an evaluation found, one entry per episode."""

    returns: tuple[float, ...]
    """Undiscounted, in the environment's own reward."""

    lengths: tuple[int, ...]
    start_q_values: tuple[float, ...]
    """max Q of the first observation: what the network promises."""

    start_returns: tuple[float, ...]
    """Discounted and transformed return from there: what came of it."""

    @property
    def mean_return(self) -> float:
        """Mean over the episodes."""
        return float(np.mean(self.returns))

    @property
    def promise_ratio(self) -> float:
        """Mean promised over mean discounted return: above 1 is overestimation."""
        return float(np.mean(self.start_q_values) / np.mean(self.start_returns))

    def meets(self, target_return: float, calibration: float | None) -> bool:
        """Whether the policy is good enough and, if asked, its Q-values near enough the truth."""
        is_calibrated = calibration is None or abs(self.promise_ratio - 1.0) <= calibration
        return self.mean_return >= target_return and is_calibrated


class EvaluationConfig(Flags):
    """Evaluate a checkpoint in its environment."""

    checkpoint: CliPositionalArg[Path]
    """Folder of the checkpoint."""

    episodes: PositiveInt = 100
    """Episodes to play."""

    epsilon: float = Field(default=0.0, ge=0, le=1)
    """Probability of a random action; 0 is greedy."""

    seed: int = Field(default=0, ge=0)
    """Seed of the episodes."""


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


def evaluate(
    q_values_of: QFunction,
    environment_id: str,
    num_episodes: int,
    epsilon: float,
    seed: int,
    *,
    discount: float,
    reward_transform: RewardTransform,
) -> EvaluationResult:
    """Play episodes and sum them up.

    Args:
        q_values_of: The policy's Q-values.
        environment_id: Gymnasium's name of the environment.
        num_episodes: How many.
        epsilon: Probability of a random action; 0 is greedy.
        seed: Seed of first states and of random actions.
        discount: Of the Q-values.
        reward_transform: Into the unit of the Q-values.
    """
    episodes = play(q_values_of, environment_id, num_episodes, epsilon, seed)
    return EvaluationResult(
        returns=tuple(float(episode.rewards.sum()) for episode in episodes),
        lengths=tuple(len(episode.actions) for episode in episodes),
        start_q_values=tuple(float(episode.q_values[0].max()) for episode in episodes),
        start_returns=tuple(
            discounted_return(episode, discount, reward_transform) for episode in episodes
        ),
    )


def evaluate_checkpoint(
    checkpoint: Checkpoint, num_episodes: int, epsilon: float, seed: int
) -> EvaluationResult:
    """Evaluate a checkpoint in the environment that it was trained in."""
    metadata = checkpoint.metadata
    return evaluate(
        q_function(checkpoint.network),
        metadata.environment_id,
        num_episodes,
        epsilon,
        seed,
        discount=metadata.discount,
        reward_transform=metadata.reward_transform,
    )


def collect(checkpoint: Checkpoint, num_episodes: int, epsilon: float, seed: int) -> Rollout:
    """Play episodes of a checkpoint and keep all that a profile is made of."""
    episodes = play(
        q_function(checkpoint.network),
        checkpoint.metadata.environment_id,
        num_episodes,
        epsilon,
        seed,
    )
    observations = np.concatenate([episode.observations for episode in episodes])
    with torch.no_grad():
        features = torch.cat(
            [
                checkpoint.network.features(rows)
                for rows in torch.split(torch.from_numpy(observations), _FEATURE_ROWS)
            ]
        )
    return Rollout(
        observations=observations,
        q_values=np.concatenate([episode.q_values for episode in episodes]),
        features=features.numpy(),
        actions=np.concatenate([episode.actions for episode in episodes]),
        rewards=np.concatenate([episode.rewards for episode in episodes]),
        returns=np.array([episode.rewards.sum() for episode in episodes], np.float32),
        lengths=np.array([len(episode.actions) for episode in episodes]),
    )


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
        self._environment = make_environment(environment_id, for_training=False)
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


def main(arguments: Sequence[str]) -> int:
    """Run `dqn evaluate`: print what a checkpoint's policy reaches. Returns the exit status."""
    torch.set_num_threads(1)
    try:
        config = CliApp.run(EvaluationConfig, cli_args=list(arguments))
        checkpoint = read_checkpoint(config.checkpoint)
    except (ValidationError, CheckpointError) as error:
        Console(stderr=True, markup=False, highlight=False, soft_wrap=True).print(
            f"error: {error}", style="red"
        )
        return 2
    result = evaluate_checkpoint(checkpoint, config.episodes, config.epsilon, config.seed)
    returns = np.array(result.returns)
    Console().print(
        f"{checkpoint.metadata.environment_id}: mean return {returns.mean():.1f} "
        f"(sd {returns.std():.1f}, min {returns.min():.1f}, max {returns.max():.1f}) "
        f"over {len(returns)} episodes at epsilon {config.epsilon:g}; "
        f"max Q at the start / discounted return: {result.promise_ratio:.3f}",
        highlight=False,
        soft_wrap=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
