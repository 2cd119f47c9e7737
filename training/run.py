"""One run of online training: everything that changes, one round at a time."""

import time
from datetime import UTC, datetime

import numpy as np
import torch
from torch import Tensor

from training import schedules
from training.actor import Walk, q_function, walk
from training.checkpoint import CheckpointMetadata, RunState, under
from training.config import TrainingConfig
from training.continued import elasticity, read_earlier
from training.divergence import check_divergence, q_limit
from training.environments import EpisodeState, describe_environment, transform_rewards
from training.evaluate import EvaluationResult, evaluate
from training.experience import Experience
from training.learner import Learner
from training.moments import FloatArray, RunningMoments
from training.network import without_noise
from training.provenance import git_revision, package_versions
from training.tracker import EndedEpisode, EpisodeTracker
from training.vectorised import make_environments

_SMALLEST_SPREAD = 1e-6
"""An observation element that varies less has taught nothing of its scale."""


class TrainingRun:
    """Actor, replay and learner of one run, and its clock.

    A run is a function of its configuration: it draws from generators of its own alone, and
    `restore` of a `state` goes on bit for bit on a CPU, unless the emulator steps the environments:
    it begins new episodes.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        torch.set_num_threads(config.threads)
        self.environment = describe_environment(config.environment_id)
        observation = self.environment.observation
        action_seed, replay_seed, weight_seed, environment_seed, evaluation_seed = (
            np.random.SeedSequence(config.seed).generate_state(5).tolist()
        )
        self._evaluation_seed: int = evaluation_seed
        self._action_rng = np.random.default_rng(action_seed)
        self._replay_rng = np.random.default_rng(replay_seed)
        self._environments = make_environments(
            config.environment_id,
            config.num_environments,
            environment_seed,
            config.stepping,
            config.stepping_processes,
        )
        network_config = config.network(observation.shape, self.environment.num_actions)
        self.learner = Learner(network_config, config, torch.Generator().manual_seed(weight_seed))
        self._q_values_of = q_function(self.learner.online_network)
        earlier = None
        if config.continue_from is not None:
            earlier = read_earlier(config.continue_from, config, network_config)
            self.learner.begin_from(
                earlier.network, elasticity(earlier, config, np.random.default_rng(replay_seed))
            )
        self._experience = Experience(
            config, observation, None if earlier is None else earlier.experience
        )
        # Weights that were learned with a normalisation keep it.
        self._fits_normalisation = config.normalise_observations and earlier is None
        self.tracker = EpisodeTracker(config.num_environments)
        self._observation_moments = RunningMoments(observation.shape)
        self.steps = 0
        self.loss: float | None = None
        self._wall_seconds_before, self._cpu_seconds_before = 0.0, 0.0
        self._wall_start, self._cpu_start = time.monotonic(), time.process_time()

    @property
    def epsilon(self) -> float:
        """Probability of a random action now."""
        schedule = {"linear": schedules.linear, "exponential": schedules.exponential}
        return schedule[self.config.epsilon_schedule](
            self.config.initial_epsilon,
            self.config.final_epsilon,
            self.steps / self.config.epsilon_steps,
        )

    @property
    def learning_rate(self) -> float:
        """The optimiser's step size now."""
        schedule = {
            "constant": schedules.constant,
            "linear": schedules.linear,
            "cosine": schedules.cosine,
        }
        return schedule[self.config.learning_rate_schedule](
            self.config.learning_rate,
            self.config.final_learning_rate,
            self.steps / self.config.total_steps,
        )

    @property
    def num_episodes(self) -> int:
        """Episodes that have ended."""
        return self.tracker.moments["returns"].count

    @property
    def has_finished(self) -> bool:
        """Whether all steps are done."""
        return self.steps >= self.config.total_steps

    def advance(self) -> list[EndedEpisode]:
        """Act for one round of steps, then learn from one round of updates.

        Epsilon, learning rate and, while acting, the network stay the same for a round.

        Raises:
            DivergenceError: Learning has gone wrong.
        """
        config = self.config
        steps_before = self.steps
        self.learner.draw_noise()
        steps_walked = walk(
            self._environments,
            self._q_values_of,
            self.epsilon,
            self._action_rng,
            config.steps_between_updates // config.num_environments,
        )
        self.steps += config.steps_between_updates
        self._remember(steps_walked)
        ended_episodes = self.tracker.add(steps_walked, steps_before)
        if self.steps >= config.learning_starts:
            self._learn()
            if config.target_update == "hard" and has_crossed(
                config.target_sync_steps, steps_before, self.steps
            ):
                self.learner.sync_target()
        return ended_episodes

    def evaluate(self, num_episodes: int) -> EvaluationResult:
        """Evaluate the online network; the same run evaluates alike at the same step."""
        sequence = np.random.SeedSequence((self._evaluation_seed, self.steps, num_episodes))
        with without_noise(self.learner.online_network):
            return evaluate(
                self._q_values_of,
                self.config.environment_id,
                num_episodes,
                self.config.evaluation_epsilon,
                int(sequence.generate_state(1)[0]),
                discount=self.config.discount,
                reward_transform=self.config.reward_transform,
            )

    def metadata(self, evaluation_return: float | None) -> CheckpointMetadata:
        """What there is to say of a checkpoint taken now."""
        statistics = self.tracker.statistics()
        return CheckpointMetadata(
            environment_id=self.config.environment_id,
            observation=self.environment.observation,
            num_actions=self.environment.num_actions,
            network=self.learner.online_network.config,
            discount=self.config.discount,
            n_step=self.config.n_step,
            reward_transform=self.config.reward_transform,
            statistics=statistics,
            evaluation_return=evaluation_return,
            config=self.config.model_dump(mode="json"),
            seed=self.config.seed,
            steps=self.steps,
            updates=self.learner.num_updates,
            episodes=statistics.returns.count,
            wall_seconds=self._wall_seconds,
            cpu_seconds=self._cpu_seconds,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=package_versions(),
            git_revision=git_revision(),
        )

    def state(self) -> RunState:
        """Everything that `restore` needs."""
        return RunState(
            tensors={
                **_prefixed("learner", self.learner.tensors()),
                **_prefixed("experience", self._experience.tensors()),
                **_prefixed("tracker", _as_tensors(self.tracker.state())),
                **_prefixed("observations", _as_tensors(self._observation_moments.state())),
            },
            values={
                "steps": self.steps,
                "loss": self.loss,
                "wall_seconds": self._wall_seconds,
                "cpu_seconds": self._cpu_seconds,
                "action_rng": self._action_rng.bit_generator.state,
                "replay_rng": self._replay_rng.bit_generator.state,
                "environments": [
                    state.model_dump(mode="json") for state in self._environments.states()
                ],
            },
        )

    def restore(self, state: RunState) -> None:
        """Go to where `state` was taken; the configuration must be the same."""
        tensors, values = state
        self.learner.load_tensors(under("learner", tensors))
        self._experience.load_tensors(under("experience", tensors))
        self.tracker.restore(_as_arrays(under("tracker", tensors)))
        self._observation_moments = RunningMoments.from_state(
            _as_arrays(under("observations", tensors))
        )
        if self._fits_normalisation:
            self._set_normalisation()
        self.steps = values["steps"]
        self.loss = values["loss"]
        self._wall_seconds_before = values["wall_seconds"]
        self._cpu_seconds_before = values["cpu_seconds"]
        self._action_rng.bit_generator.state = values["action_rng"]
        self._replay_rng.bit_generator.state = values["replay_rng"]
        self._environments.restore(
            [EpisodeState.model_validate(value) for value in values["environments"]]
        )
        if not self._environments.goes_on:
            self._experience.cut()
            self.tracker.cut()

    def close(self) -> None:
        """Free the environments."""
        self._environments.close()

    @property
    def _wall_seconds(self) -> float:
        return self._wall_seconds_before + time.monotonic() - self._wall_start

    @property
    def _cpu_seconds(self) -> float:
        return self._cpu_seconds_before + time.process_time() - self._cpu_start

    def _remember(self, steps_walked: Walk) -> None:
        walked = steps_walked.transitions
        if self._fits_normalisation and self.steps <= self.config.normalisation_steps:
            self._observation_moments.add(np.concatenate([step.observations for step in walked]))
            self._set_normalisation()
        transform = self.config.reward_transform
        self._experience.add(
            [step._replace(rewards=transform_rewards(step.rewards, transform)) for step in walked]
        )

    def _learn(self) -> None:
        self.learner.set_learning_rate(self.learning_rate)
        losses = []
        for _ in range(self.config.updates_per_round):
            drawn = self._experience.draw(self._replay_rng, self.steps / self.config.total_steps)
            figures = self.learner.update(drawn.batch)
            self._experience.learned(drawn.slots, figures.errors)
            losses.append(figures.loss)
        self.loss = float(torch.stack(losses).mean())
        check_divergence(
            self.loss,
            float(figures.q_values.abs().max()),
            q_limit(
                self.tracker.rewards,
                self.config.reward_transform,
                self.config.discount,
                self.config.q_limit_factor,
            ),
            self.learner.num_updates,
        )

    def _set_normalisation(self) -> None:
        normalisation = self.learner.online_network.normalisation
        if normalisation is None:
            return
        mean, sd = self._observation_moments.mean, self._observation_moments.sd
        scale = np.divide(1.0, sd, out=np.ones_like(sd), where=sd > _SMALLEST_SPREAD)
        # In place: the actor's arrays share this memory.
        normalisation.mean.copy_(torch.from_numpy(mean))
        normalisation.scale.copy_(torch.from_numpy(scale))


def has_crossed(interval: int, steps_before: int, steps: int) -> bool:
    """Whether a multiple of `interval` lies in (steps_before, steps]."""
    return steps // interval > steps_before // interval


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _as_tensors(arrays: dict[str, FloatArray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()}


def _as_arrays(tensors: dict[str, Tensor]) -> dict[str, FloatArray]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}
