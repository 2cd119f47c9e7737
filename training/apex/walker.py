"""One actor: walks its environments and says how wrong its network was of each transition."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from training.actor import Walk, q_function, walk
from training.apex.config import ApexConfig
from training.apex.strips import Floats, Strip, make_strips
from training.environments import describe_environment, transform_rewards
from training.n_step import NStepAccumulator
from training.network import NetworkConfig, QNetwork
from training.replay import Transitions
from training.tracker import EndedEpisode, EpisodeTracker
from training.vectorised import make_environments

Weights = dict[str, npt.NDArray[Any]]
"""A network's state by name."""


class WalkReport(NamedTuple):
    """What a walk was like, for the run's log."""

    num_steps: int
    episodes: list[EndedEpisode]
    """Their `steps` count this actor's alone."""

    rewards: Floats
    absolute_q_values: Floats


class Walker:
    """Walks with the weights that it was given last."""

    def __init__(
        self, config: ApexConfig, network_config: NetworkConfig, index: int, life: int
    ) -> None:
        """Begin.

        Args:
            config: Of the whole run.
            network_config: Of the network that acts.
            index: Which of the actors this is: the lower, the more it explores.
            life: How often it has died; no life repeats another's episodes.
        """
        self._config = config
        environment_seed, action_seed = (
            np.random.SeedSequence((config.seed, index, life)).generate_state(2).tolist()
        )
        self._environments = make_environments(
            config.environment_id,
            config.num_environments,
            environment_seed,
            config.stepping,
            config.stepping_processes,
        )
        self._depth = describe_environment(config.environment_id).observation.frame_stack
        self._rng = np.random.default_rng(action_seed)
        self._network = QNetwork(network_config).eval()
        self._q_values_of = q_function(self._network)
        self._weights_version = -1
        self._epsilon = actor_epsilon(
            index, config.num_actors, config.actor_epsilon, config.actor_epsilon_exponent
        )
        self._accumulator = NStepAccumulator(config.n_step, config.discount)
        self._tracker = EpisodeTracker(config.num_environments)
        self._num_steps = 0
        self._waiting: list[tuple[Transitions, Floats]] = []

    def walk_with(self, published: tuple[int, Weights]) -> tuple[list[Strip], WalkReport]:
        """Walk `steps_per_walk` steps of each environment with published weights.

        They come with their version; those that are known are not loaded again.
        """
        version, weights = published
        if version != self._weights_version:
            tensors = {name: torch.tensor(array) for name, array in weights.items()}
            self._network.load_state_dict(tensors)
            self._weights_version = version
        walked = walk(
            self._environments,
            self._q_values_of,
            self._epsilon,
            self._rng,
            self._config.steps_per_walk,
        )
        episodes = self._tracker.add(walked, self._num_steps)
        num_steps = self._config.steps_per_walk * self._config.num_environments
        self._num_steps += num_steps
        report = WalkReport(
            num_steps,
            episodes,
            np.concatenate([step.rewards for step in walked.transitions]),
            np.abs(walked.q_values).ravel(),
        )
        return self._strips(walked), report

    def _strips(self, walked: Walk) -> list[Strip]:
        transform = self._config.reward_transform
        steps = [
            step._replace(rewards=transform_rewards(step.rewards, transform))
            for step in walked.transitions
        ]
        ready = self._accumulator.add(steps)
        self._waiting += zip(steps, walked.q_values, strict=True)
        if ready is None:
            return []
        transitions, spans = ready
        values_now = self._q_values_of(self._environments.observations).max(axis=1)
        errors = first_errors(self._waiting, values_now, ready, self._config.discount)
        self._waiting = self._waiting[len(self._waiting) - self._config.n_step + 1 :]
        return make_strips(
            transitions,
            spans,
            errors,
            depth=self._depth,
            most_frames=self._config.frames_per_strip(self._depth),
        )


def first_errors(
    walked: list[tuple[Transitions, Floats]],
    values_now: Floats,
    ready: tuple[Transitions, npt.NDArray[np.int64]],
    discount: float,
) -> Floats:
    """|n-step return + discounted max Q - Q|, with Q-values that the walk has computed anyway.

    After a truncation, the value before it stands in for the one after.

    Args:
        walked: Steps in a row of N environments, with their q_values, [N, num_actions].
        values_now: max Q of what is seen after the last of them, [N].
        ready: Transitions that begin with the first steps of `walked`, step by step, and how many
            steps each spans.
        discount: Per step.
    """
    transitions, spans = ready
    num_environments = len(values_now)
    q_values = np.array([values for _, values in walked])
    values = np.concatenate([q_values.max(axis=2), values_now[np.newaxis]])
    first, lane = np.divmod(np.arange(len(spans)), num_environments)
    following = np.where(transitions.truncated, first + spans - 1, first + spans)
    bootstraps = np.where(transitions.terminated, 0.0, values[following, lane])
    targets = transitions.rewards + discount**spans * bootstraps
    predictions = q_values[first, lane, transitions.actions]
    errors: Floats = np.abs(targets - predictions).astype(np.float32)
    return errors


def actor_epsilon(index: int, num_actors: int, epsilon: float, exponent: float) -> float:
    """Horgan et al. (2018), 4.1: epsilon^(1 + exponent * index / (num_actors - 1))."""
    share = index / (num_actors - 1) if num_actors > 1 else 0.0
    return float(epsilon ** (1.0 + exponent * share))
