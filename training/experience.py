"""What a run remembers, and what it learns from next."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from contract.declaration import ObservationSpec
from training import schedules
from training.checkpoint import under
from training.config import TrainingConfig
from training.frame_replay import FrameReplay, ReturnRule
from training.frame_stores import CompressedFrames, RawFrames
from training.n_step import NStepAccumulator
from training.prioritised import Priorities
from training.regularisation import rehearse, rehearsed_size
from training.replay import Batch, Changed, ReplayBuffer, Slots, Transitions


class Drawn(NamedTuple):
    """A batch to learn from, and the slots that it is from."""

    batch: Batch
    slots: Slots
    """Of its first rows; the others, if any, are rehearsed."""


class Experience:
    """The replay of a run with its extensions, as configured.

    These are n-step returns, priorities and the rehearsal of an earlier run's experience.
    """

    def __init__(
        self,
        config: TrainingConfig,
        observation: ObservationSpec,
        earlier: "Experience | None" = None,
    ) -> None:
        self._config = config
        self._earlier = earlier
        self._num_rehearsed = (
            0 if earlier is None else rehearsed_size(config.batch_size, config.rehearsed_share)
        )
        self._accumulator = NStepAccumulator(config.n_step, config.discount)
        self._replay = make_replay(config, observation)
        self._priorities = (
            Priorities(config.replay_capacity, config.priority_exponent)
            if config.prioritised
            else None
        )

    def add(self, walked: Sequence[Transitions]) -> None:
        """Remember steps of all environments, [N] each, in order; rewards already transformed."""
        for changed in self._remember(walked):
            if self._priorities is not None:
                self._priorities.forget(changed.gone)
                self._priorities.admit(changed.ready)

    def draw(self, rng: np.random.Generator, progress: float) -> Drawn:
        """Draw a batch.

        Args:
            rng: Decides which transitions.
            progress: Share of the run that is done; the bias of priorities matters more and more.
        """
        drawn = self._draw_own(self._config.batch_size - self._num_rehearsed, rng, progress)
        if self._earlier is None or self._num_rehearsed == 0:
            return drawn
        old = self._earlier.draw_evenly(self._num_rehearsed, rng)
        return drawn._replace(batch=rehearse(drawn.batch, old))

    def draw_evenly(self, size: int, rng: np.random.Generator) -> Batch:
        """Transitions, each as likely as any other."""
        return self._replay.batch(self._replay.draw(size, rng))

    def _draw_own(self, size: int, rng: np.random.Generator, progress: float) -> Drawn:
        if self._priorities is None:
            slots = self._replay.draw(size, rng)
            return Drawn(self._replay.batch(slots), slots)
        slots = self._priorities.draw(size, rng)
        correction = schedules.linear(self._config.initial_priority_correction, 1.0, progress)
        weights = self._priorities.importance_weights(slots, correction)
        return Drawn(self._replay.batch(slots)._replace(weights=weights), slots)

    def learned(self, slots: Slots, errors: Tensor) -> None:
        """Remember how wrong the predictions of a drawn batch were, [N]; its slots come first."""
        if self._priorities is not None:
            self._priorities.update(slots, errors[: len(slots)].cpu().numpy())

    def cut(self) -> None:
        """End the episodes under way: what is added next belongs to others."""
        self._accumulator.cut()
        if isinstance(self._replay, FrameReplay):
            self._replay.cut()

    def tensors(self) -> dict[str, Tensor]:
        """All of it, for `load_tensors` of a run of the same configuration."""
        tensors = {f"replay.{name}": tensor for name, tensor in self._replay.tensors().items()}
        waiting = self._accumulator.arrays()
        tensors |= {f"waiting.{name}": torch.from_numpy(array) for name, array in waiting.items()}
        if self._priorities is not None:
            priorities = self._priorities.tensors()
            tensors |= {f"priorities.{name}": tensor for name, tensor in priorities.items()}
        return tensors

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take up what `tensors` gave."""
        self._replay.load_tensors(under("replay", tensors))
        waiting = under("waiting", tensors)
        self._accumulator.load_arrays({name: tensor.numpy() for name, tensor in waiting.items()})
        if self._priorities is not None:
            self._priorities.load_tensors(under("priorities", tensors))

    def _remember(self, walked: Sequence[Transitions]) -> list[Changed]:
        if isinstance(self._replay, FrameReplay):
            return [self._replay.add(step) for step in walked]
        ready = self._accumulator.add(walked)
        return [] if ready is None else [self._replay.add(*ready)]


def make_replay(config: TrainingConfig, observation: ObservationSpec) -> ReplayBuffer | FrameReplay:
    """The replay that the configuration asks for.

    Raises:
        ValueError: Frames are to be kept, and observations are no stacks of them.
    """
    if config.replay_storage == "transitions":
        return ReplayBuffer(config.replay_capacity, observation.shape, observation.numpy_dtype)
    if observation.frame_stack == 1:
        raise ValueError(
            f"observations have shape {list(observation.shape)} and are no stacked frames; set "
            "--replay-storage transitions"
        )
    store = RawFrames if config.replay_storage == "frames" else CompressedFrames
    frames = store(config.replay_capacity, observation.shape[1:], observation.numpy_dtype)
    return FrameReplay(
        frames,
        config.replay_capacity,
        config.num_environments,
        observation.frame_stack,
        ReturnRule(config.n_step, config.discount),
    )
