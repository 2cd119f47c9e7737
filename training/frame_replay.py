"""A replay of stacked frames that keeps each frame once.

Stacks, next stacks and n-step returns are put together when a batch is drawn. A step takes one
frame; an episode's end takes one more, and its beginning up to `depth` - 1 more where the first
stack is not one frame repeated.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.frame_stores import FrameStore
from training.n_step import n_step_returns
from training.replay import Batch, Changed, Slots, Transitions

_Ints = npt.NDArray[np.int64]


class ReturnRule(NamedTuple):
    """How many rewards are added up, and how they are discounted."""

    n_step: int
    discount: float
    """Per step."""


class FrameReplay:
    """The latest steps of several environments, each in a lane of its own.

    Positions count all frames that a lane has ever been given; the latest `lane_size` are kept.
    """

    def __init__(
        self, frames: FrameStore, capacity: int, num_lanes: int, depth: int, rule: ReturnRule
    ) -> None:
        self._frames = frames
        self._lane_size = capacity // num_lanes
        self._lane_starts = np.arange(num_lanes) * self._lane_size
        self._depth = depth
        self._rule = rule
        capacity = self._lane_size * num_lanes
        self._columns: dict[str, npt.NDArray[Any]] = {
            "actions": np.zeros(capacity, np.int64),
            "rewards": np.zeros(capacity, np.float32),
            "terminated": np.zeros(capacity, np.bool_),
            "truncated": np.zeros(capacity, np.bool_),
            # Frames of its episode that lie before a frame, as far as its stack reaches.
            "ages": np.zeros(capacity, np.uint8),
            # False for the frames that are part of stacks only.
            "is_step": np.zeros(capacity, np.bool_),
        }
        self._num_written: _Ints = np.zeros(num_lanes, np.int64)
        self._ages: _Ints = np.zeros(num_lanes, np.int64)
        self._is_start = np.ones(num_lanes, np.bool_)

    def __len__(self) -> int:
        return int(self._columns["is_step"][self._slots_between(*self._window())].sum())

    def add(self, transitions: Transitions) -> Changed:
        """Append one step of every lane, [num_lanes], observations being [depth, *frame_shape]."""
        low_before, high_before = self._window()
        for lane in np.flatnonzero(self._is_start).tolist():
            self._begin(lane, transitions.observations[lane])
        lanes = np.arange(len(self._lane_starts))
        self._append(lanes, transitions.observations[:, -1], transitions)
        ended = transitions.terminated | transitions.truncated
        if ended.any():
            self._append(lanes[ended], transitions.next_observations[ended, -1], None)
        self._is_start = ended
        low, high = self._window()
        ready = self._slots_between(np.maximum(high_before, low), high)
        return Changed(
            ready=ready[self._columns["is_step"][ready]],
            gone=self._slots_between(low_before, np.minimum(low, high_before)),
        )

    def cut(self) -> None:
        """Truncate the episodes under way, each before its last step, whose frame ends it."""
        lanes = np.flatnonzero(~self._is_start & (self._num_written > 0))
        last = self._num_written[lanes] - 1
        self._columns["is_step"][self._lane_starts[lanes] + last % self._lane_size] = False
        before = self._lane_starts[lanes] + (last - 1) % self._lane_size
        self._columns["truncated"][before] |= self._columns["is_step"][before]
        self._is_start[:] = True

    def draw(self, size: int, rng: np.random.Generator) -> Slots:
        """Draw slots uniformly, with replacement.

        Raises:
            ValueError: There is no step yet that enough others follow.
        """
        low, high = self._window()
        ends = (high - low).cumsum()
        # At the start all that can be reached may be the first stack's older frames.
        if ends[-1] < self._depth * len(ends) and len(self) == 0:
            raise ValueError("cannot sample from an empty replay buffer")
        slots = np.empty(0, np.int64)
        while len(slots) < size:
            # Few frames are no steps, so one more try for these mostly does.
            drawn = rng.integers(ends[-1], size=size - len(slots))
            lanes = ends.searchsorted(drawn, side="right")
            positions = high[lanes] - (ends[lanes] - drawn)
            found = self._lane_starts[lanes] + positions % self._lane_size
            slots = np.concatenate((slots, found[self._columns["is_step"][found]]))
        return slots

    def batch(self, slots: Slots) -> Batch:
        """The transitions in these slots.

        With single steps both stacks are views of the same frames, since they share all but one.
        """
        columns = self._columns
        n_step, discount = self._rule
        starts = slots - slots % self._lane_size
        positions = slots - starts
        following = self._wrapped(starts, positions, np.arange(n_step))
        ended = columns["terminated"][following] | columns["truncated"][following]
        rewards, spans = n_step_returns(columns["rewards"][following], ended, discount)
        last = following[np.arange(len(slots)), spans - 1]
        observations, next_observations = self._stacks(starts, positions, spans)
        return Batch(
            observations=observations,
            actions=torch.from_numpy(columns["actions"][slots]),
            rewards=torch.from_numpy(rewards),
            next_observations=next_observations,
            terminated=torch.from_numpy(columns["terminated"][last]),
            truncated=torch.from_numpy(columns["truncated"][last]),
            steps=torch.from_numpy(spans.astype(np.uint8)),
            weights=torch.ones(len(slots)),
        )

    def tensors(self) -> dict[str, Tensor]:
        """The content, for `load_tensors` of a replay of the same kind."""
        kept = self._kept()
        columns = {name: torch.from_numpy(column[kept]) for name, column in self._columns.items()}
        frames = {f"frames.{name}": each for name, each in self._frames.tensors(kept).items()}
        return {
            **columns,
            **frames,
            "num_written": torch.from_numpy(self._num_written),
            "lane_ages": torch.from_numpy(self._ages),
            "is_start": torch.from_numpy(self._is_start),
        }

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take up the content that `tensors` gave."""
        self._num_written = tensors["num_written"].numpy().copy()
        self._ages = tensors["lane_ages"].numpy().copy()
        self._is_start = tensors["is_start"].numpy().copy()
        kept = self._kept()
        for name, column in self._columns.items():
            column[kept] = tensors[name].numpy()
        frames = {
            name.removeprefix("frames."): tensor
            for name, tensor in tensors.items()
            if name.startswith("frames.")
        }
        self._frames.load_tensors(kept, frames)

    def _begin(self, lane: int, stack: npt.NDArray[Any]) -> None:
        """Begin an episode: what its first stack shows beside its newest frame is kept as well."""
        self._ages[lane] = 0
        if (stack[:-1] == stack[-1]).all():
            return
        for frame in stack[:-1]:
            self._append(np.array([lane]), frame[np.newaxis], None)

    def _append(
        self, lanes: _Ints, frames: npt.NDArray[Any], transitions: Transitions | None
    ) -> None:
        """Write the next frame of some lanes; those of a step come with all lanes' transitions."""
        slots = self._lane_starts[lanes] + self._num_written[lanes] % self._lane_size
        self._frames.write(slots, frames)
        columns = self._columns
        columns["ages"][slots] = self._ages[lanes]
        columns["is_step"][slots] = transitions is not None
        for name in ("actions", "rewards", "terminated", "truncated"):
            columns[name][slots] = 0 if transitions is None else getattr(transitions, name)
        self._ages[lanes] = np.minimum(self._ages[lanes] + 1, self._depth - 1)
        self._num_written[lanes] += 1

    def _window(self) -> tuple[_Ints, _Ints]:
        """From which position to which, exclusive, each lane can be drawn from.

        Before it stacks have lost frames; after it what follows has not come yet.
        """
        lost = self._num_written - self._lane_size
        low = np.where(lost > 0, lost + self._depth - 1, 0)
        return low, np.maximum(self._num_written - self._rule.n_step, low)

    def _kept(self) -> Slots:
        return self._slots_between(
            np.maximum(self._num_written - self._lane_size, 0), self._num_written
        )

    def _slots_between(self, low: _Ints, high: _Ints) -> Slots:
        """The slots of positions [low, high) of each lane; lane by lane, oldest first."""
        counts = np.maximum(high - low, 0)
        lanes = np.repeat(np.arange(len(counts)), counts)
        places = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        slots: Slots = self._lane_starts[lanes] + (low[lanes] + places) % self._lane_size
        return slots

    def _stacks(self, starts: Slots, positions: _Ints, spans: _Ints) -> tuple[Tensor, Tensor]:
        """Stacks of positions, and of those `spans` later, each [N, depth, *frame_shape]."""
        reach = np.arange(1 - self._depth, 1)
        if self._rule.n_step == 1:
            ages = self._columns["ages"][starts + positions]
            shown = self._show(starts, positions, np.arange(1 - self._depth, 2), ages)
            return shown[:, :-1], shown[:, 1:]
        later = (positions + spans) % self._lane_size
        both_starts, both = np.tile(starts, 2), np.concatenate((positions, later))
        shown = self._show(both_starts, both, reach, self._columns["ages"][both_starts + both])
        return shown[: len(starts)], shown[len(starts) :]

    def _show(
        self, starts: Slots, positions: _Ints, offsets: _Ints, ages: npt.NDArray[np.uint8]
    ) -> Tensor:
        """Frames at offsets from positions, none older than its episode's first one."""
        reached = np.maximum(offsets, -ages.astype(np.int64)[:, np.newaxis])
        frames = self._frames.read(self._wrapped(starts, positions, reached).ravel())
        return frames.view(len(positions), len(offsets), *frames.shape[1:])

    def _wrapped(self, starts: Slots, positions: _Ints, offsets: _Ints) -> Slots:
        """Slots at offsets, [K] or [N, K], from positions of lanes that begin at `starts`."""
        within = (positions[:, np.newaxis] + offsets) % self._lane_size
        found: Slots = starts[:, np.newaxis] + within
        return found
