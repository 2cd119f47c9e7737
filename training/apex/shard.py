"""One shard of the replay: strips in a ring, their transitions drawn by priority."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from contract.declaration import ObservationSpec
from training.apex.strips import Strip
from training.prioritised import Priorities
from training.replay import Batch


class Draw(NamedTuple):
    """A batch, and where it is from."""

    batch: dict[str, npt.NDArray[Any]]
    """One array per field of `Batch`: arrays pass between processes without a copy."""

    slots: npt.NDArray[np.int64]
    generations: npt.NDArray[np.int64]
    """How often each slot's strip had been overwritten."""


class Shard:
    """Owns the latest strips of some actors.

    A strip is overwritten whole, so no transition ever loses a frame while it may be drawn.
    """

    def __init__(
        self,
        observation: ObservationSpec,
        *,
        num_strips: int,
        rows_per_strip: int,
        frames_per_strip: int,
        priority_exponent: float,
        seed: tuple[int, ...],
    ) -> None:
        depth = observation.frame_stack
        frame = observation.frame.shape
        rows = (num_strips, rows_per_strip)
        self._rows_per_strip = rows_per_strip
        self._is_stacked = depth > 1
        self._frames = np.empty((num_strips, frames_per_strip, *frame), observation.numpy_dtype)
        self._columns: dict[str, npt.NDArray[Any]] = {
            "observations": np.empty((*rows, depth), np.int32),
            "next_observations": np.empty((*rows, depth), np.int32),
            "actions": np.empty(rows, np.int64),
            "rewards": np.empty(rows, np.float32),
            "terminated": np.empty(rows, np.bool_),
            "truncated": np.empty(rows, np.bool_),
            "steps": np.empty(rows, np.uint8),
        }
        self._priorities = Priorities(num_strips * rows_per_strip, priority_exponent)
        self._generations = np.zeros(num_strips, np.int64)
        self._num_rows = np.zeros(num_strips, np.int64)
        self._num_strips_added = 0
        self._rng = np.random.default_rng(seed)

    def add(self, strips: list[Strip]) -> int:
        """Take in strips, over the oldest ones; how many transitions can be drawn now."""
        for strip in strips:
            self._add(strip)
        return int(self._num_rows.sum())

    def draw(self, size: int, correction: float, fewest: int) -> Draw | None:
        """Draw a batch by priority; `None` as long as there are not `fewest` transitions.

        Args:
            size: Of the batch.
            correction: How much of the bias of priorities its weights undo, 0 to 1.
            fewest: Transitions to draw from.
        """
        num_filled = int(self._num_rows.sum())
        if num_filled < max(fewest, 1):
            return None
        slots = self._priorities.draw(size, self._rng)
        strips, rows = np.divmod(slots, self._rows_per_strip)
        batch = {name: column[strips, rows] for name, column in self._columns.items()}
        for name in ("observations", "next_observations"):
            stacks = self._frames[strips[:, np.newaxis], batch[name]]
            batch[name] = stacks if self._is_stacked else stacks[:, 0]
        weights = self._priorities.importance_weights(slots, correction)
        return Draw(batch | {"weights": weights.numpy()}, slots, self._generations[strips])

    def learned(
        self,
        slots: npt.NDArray[np.int64],
        generations: npt.NDArray[np.int64],
        errors: npt.NDArray[np.float32],
    ) -> None:
        """Remember how wrong predictions were, unless other transitions lie there by now."""
        is_same = self._generations[slots // self._rows_per_strip] == generations
        if is_same.any():
            self._priorities.update(slots[is_same], errors[is_same])

    def _add(self, strip: Strip) -> None:
        place = self._num_strips_added % len(self._generations)
        num_rows = len(strip.actions)
        self._frames[place, : len(strip.frames)] = strip.frames
        for name, column in self._columns.items():
            column[place, :num_rows] = getattr(strip, name)
        first = place * self._rows_per_strip
        slots = np.arange(first, first + self._rows_per_strip)
        self._priorities.update(slots[:num_rows], strip.errors)
        self._priorities.forget(slots[num_rows:])
        self._num_rows[place] = num_rows
        self._generations[place] += 1
        self._num_strips_added += 1


def as_batch(draw: Draw) -> Batch:
    """The batch of a draw as tensors, for a learner."""
    # Copied: what another process shares cannot be written to, which torch insists on.
    return Batch(**{name: torch.from_numpy(column.copy()) for name, column in draw.batch.items()})
