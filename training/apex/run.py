"""One run of Ape-X: the learner, and what it has its fleet do."""

import time
from collections import deque
from datetime import UTC, datetime
from itertools import cycle
from typing import Any

import numpy as np
import ray
import torch

from training import schedules
from training.actor import q_function
from training.apex.config import ApexConfig
from training.apex.fleet import Died, Drawn, Event, Fleet, Stored, Walked, Worker
from training.apex.shard import as_batch
from training.apex.walker import WalkReport
from training.checkpoint import CheckpointMetadata, TrainingStatistics
from training.divergence import check_divergence, q_limit
from training.environments import describe_environment
from training.evaluate import EvaluationResult, evaluate
from training.learner import Learner, UpdateFigures
from training.moments import RunningMoments
from training.provenance import git_revision, package_versions
from training.tracker import EndedEpisode

_DRAWS_UNDER_WAY = 2
"""Of each shard: while the learner learns from one batch the next one is made."""

_STORES_UNDER_WAY = 4
"""Of each shard; beyond, actors wait for it rather than fill the object store."""


class ApexRun:
    """Learner, fleet and their clock, which counts environment steps of all actors."""

    def __init__(self, config: ApexConfig) -> None:
        """Start the processes; `ray.init` is the caller's."""
        self.config = config
        self.environment = describe_environment(config.environment_id)
        observation = self.environment.observation
        network_config = config.network(observation.shape, self.environment.num_actions)
        self.learner = Learner(network_config, config, torch.Generator().manual_seed(config.seed))
        self.fleet = Fleet(
            config.num_actors,
            config.num_shards,
            lambda index, life: (config, network_config, index, life),
            lambda index, life: {
                "observation": observation,
                "num_strips": config.strips_per_shard,
                "rows_per_strip": config.rows_per_strip,
                "frames_per_strip": config.frames_per_strip(observation.frame_stack),
                "priority_exponent": config.priority_exponent,
                "seed": (config.seed, index, life),
            },
        )
        self.steps = 0
        self.loss: float | None = None
        self.moments = {name: RunningMoments() for name in TrainingStatistics.model_fields}
        self._shards = [worker for worker in self.fleet.workers if worker.role == "shard"]
        self._next_shard = cycle(self._shards)
        self._idle_draws = dict.fromkeys(self._shards, 0)
        self._stores_under_way = dict.fromkeys(self._shards, 0)
        self._waiting_actors: deque[Worker] = deque()
        self._waiting_draws: deque[Drawn] = deque()
        self._weights: ray.ObjectRef[Any] = self._publish()
        self._wall_start, self._cpu_start = time.monotonic(), time.process_time()
        for worker in self.fleet.workers:
            self._set_to_work(worker)

    @property
    def num_episodes(self) -> int:
        """Episodes that have ended."""
        return self.moments["returns"].count

    @property
    def has_finished(self) -> bool:
        """Whether all steps are done."""
        return self.steps >= self.config.total_steps

    def advance(self) -> list[EndedEpisode]:
        """Take in what the fleet has done, and learn from one batch if one is there.

        Raises:
            DivergenceError: Learning has gone wrong.
            RuntimeError: A process keeps dying.
        """
        ended = []
        for event in self.fleet.events(wait=not self._can_learn):
            ended += self._take_in(event)
        if self._can_learn:
            self._learn(self._waiting_draws.popleft())
        for _ in range(len(self._waiting_actors)):
            self._walk_or_wait(self._waiting_actors.popleft())
        return ended

    def evaluate(self, num_episodes: int) -> EvaluationResult:
        """Evaluate the online network in environments of its own."""
        sequence = np.random.SeedSequence((self.config.seed, self.steps, num_episodes))
        return evaluate(
            q_function(self.learner.online_network),
            self.config.environment_id,
            num_episodes,
            self.config.evaluation_epsilon,
            int(sequence.generate_state(1)[0]),
            discount=self.config.discount,
            reward_transform=self.config.reward_transform,
        )

    def metadata(self, evaluation_return: float | None) -> CheckpointMetadata:
        """What there is to say of a checkpoint taken now."""
        statistics = {name: moments.summary() for name, moments in self.moments.items()}
        return CheckpointMetadata(
            environment_id=self.config.environment_id,
            observation=self.environment.observation,
            num_actions=self.environment.num_actions,
            network=self.learner.online_network.config,
            discount=self.config.discount,
            n_step=self.config.n_step,
            reward_transform=self.config.reward_transform,
            statistics=TrainingStatistics(**statistics),
            evaluation_return=evaluation_return,
            config=self.config.model_dump(mode="json"),
            seed=self.config.seed,
            steps=self.steps,
            updates=self.learner.num_updates,
            episodes=self.num_episodes,
            wall_seconds=time.monotonic() - self._wall_start,
            cpu_seconds=time.process_time() - self._cpu_start,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=package_versions() | {"ray": ray.__version__},
            git_revision=git_revision(),
        )

    def close(self) -> None:
        """End the processes."""
        self.fleet.close()

    def _take_in(self, event: Event) -> list[EndedEpisode]:
        match event:
            case Walked(worker, strips, report):
                shard = next(self._next_shard)
                self._stores_under_way[shard] += 1
                self.fleet.store(shard, strips)
                self._walk_or_wait(worker)
                return self._count(report)
            case Stored(shard):
                self._stores_under_way[shard] -= 1
                for _ in range(self._idle_draws[shard]):
                    self._draw(shard)
                self._idle_draws[shard] = 0
            case Drawn(shard, None):
                # Once it has taken in more.
                self._idle_draws[shard] += 1
            case Drawn():
                self._waiting_draws.append(event)
            case Died(worker):
                if worker.role == "shard":
                    self._idle_draws[worker] = self._stores_under_way[worker] = 0
                self._set_to_work(worker)
        return []

    def _set_to_work(self, worker: Worker) -> None:
        if worker.role == "actor":
            self._walk_or_wait(worker)
            return
        for _ in range(_DRAWS_UNDER_WAY):
            self._draw(worker)

    def _walk_or_wait(self, worker: Worker) -> None:
        if self._may_walk():
            self.fleet.walk(worker, self._weights)
        else:
            self._waiting_actors.append(worker)

    def _draw(self, shard: Worker) -> None:
        correction = schedules.linear(
            self.config.initial_priority_correction, 1.0, self.steps / self.config.total_steps
        )
        fewest = self.config.learning_starts // self.config.num_shards
        self.fleet.draw(shard, self.config.batch_size, correction, fewest)

    def _count(self, report: WalkReport) -> list[EndedEpisode]:
        self.steps += report.num_steps
        self.moments["rewards"].add(report.rewards)
        self.moments["absolute_q_values"].add(report.absolute_q_values)
        self.moments["returns"].add([episode.episode_return for episode in report.episodes])
        self.moments["lengths"].add([episode.length for episode in report.episodes])
        return [episode._replace(steps=self.steps) for episode in report.episodes]

    def _may_walk(self) -> bool:
        if max(self._stores_under_way.values()) >= _STORES_UNDER_WAY:
            return False
        return not self.config.keep_ratio or self._steps_ahead() <= self._slack

    @property
    def _can_learn(self) -> bool:
        if not self._waiting_draws:
            return False
        return not self.config.keep_ratio or self._steps_ahead() >= -self._slack

    @property
    def _slack(self) -> int:
        return 2 * self.config.rows_per_strip * self.config.num_actors

    def _steps_ahead(self) -> float:
        """Steps beyond what the updates so far are the configured share of."""
        steps_per_update = self.config.steps_between_updates / self.config.updates_per_round
        learned_steps = self.learner.num_updates * steps_per_update
        return self.steps - self.config.learning_starts - learned_steps

    def _learn(self, drawn: Drawn) -> None:
        assert drawn.draw is not None
        config = self.config
        progress = self.steps / config.total_steps
        schedule = {
            "constant": schedules.constant,
            "linear": schedules.linear,
            "cosine": schedules.cosine,
        }[config.learning_rate_schedule]
        self.learner.set_learning_rate(
            schedule(config.learning_rate, config.final_learning_rate, progress)
        )
        figures = self.learner.update(as_batch(drawn.draw))
        self.fleet.learned(drawn.worker, drawn.draw, figures.errors.cpu().numpy())
        self._draw(drawn.worker)
        updates = self.learner.num_updates
        if updates % config.publish_every_updates == 0:
            self._weights = self._publish()
            self._check(figures)
        steps_per_update = config.steps_between_updates / config.updates_per_round
        sync_every = max(1, round(config.target_sync_steps / steps_per_update))
        if config.target_update == "hard" and updates % sync_every == 0:
            self.learner.sync_target()

    def _publish(self) -> "ray.ObjectRef[Any]":
        state = self.learner.online_network.state_dict()
        weights = {name: tensor.cpu().numpy() for name, tensor in state.items()}
        return ray.put((self.learner.num_updates, weights))

    def _check(self, figures: UpdateFigures) -> None:
        self.loss = float(figures.loss)
        limit = q_limit(
            self.moments["rewards"],
            self.config.reward_transform,
            self.config.discount,
            self.config.q_limit_factor,
        )
        largest_q = float(figures.q_values.abs().max())
        check_divergence(self.loss, largest_q, limit, self.learner.num_updates)
