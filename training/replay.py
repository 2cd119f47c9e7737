"""The replay: a preallocated ring of transitions."""

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Slots = npt.NDArray[np.int64]


class Transitions(NamedTuple):
    """One transition from each of N environments, one array per field, as they were walked."""

    observations: npt.NDArray[np.generic]
    actions: npt.NDArray[np.int64]
    rewards: npt.NDArray[np.float32]
    next_observations: npt.NDArray[np.generic]
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]


class Batch(NamedTuple):
    """N transitions, one tensor per field, as they are learned from."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    """Of one step, or the discounted sum of `steps`."""

    next_observations: Tensor
    terminated: Tensor
    truncated: Tensor
    steps: Tensor
    """Environment steps between observation and next observation, [N] of uint8."""

    weights: Tensor
    """How much each loss counts, [N]; 1 where transitions are drawn evenly."""


_FIELDS = (*Transitions._fields, "steps")
"""Of `Batch` in its order, without the weights, which are given when a batch is drawn."""


class Changed(NamedTuple):
    """Slots of a replay that an addition changed."""

    ready: Slots
    """Those that may be drawn from now on."""

    gone: Slots
    """Those that may be drawn no more."""


class Replay(Protocol):
    """What remembers transitions in slots; which of them to draw is another's choice, or even."""

    def draw(self, size: int, rng: np.random.Generator) -> Slots:
        """Slots, evenly and with replacement."""

    def batch(self, slots: Slots) -> Batch:
        """The transitions in these slots."""

    def tensors(self) -> dict[str, Tensor]:
        """The content, for `load_tensors` of a replay of the same capacity."""

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take up the content that `tensors` gave."""


class ReplayBuffer:
    """The latest `capacity` transitions; the oldest make room for new ones.

    `terminated` and `truncated` stay two fields: only the first ends the value of what follows.
    """

    def __init__(
        self, capacity: int, observation_shape: tuple[int, ...], observation_dtype: npt.DTypeLike
    ) -> None:
        # One after another in memory, a transition's fields cost one miss of the cache; a column
        # each, they cost eight.
        layout = np.dtype(
            [
                ("observations", observation_dtype, observation_shape),
                ("actions", np.int64),
                ("rewards", np.float32),
                ("next_observations", observation_dtype, observation_shape),
                ("terminated", np.bool_),
                ("truncated", np.bool_),
                ("steps", np.uint8),
            ],
            align=True,
        )
        self._rows = np.empty(capacity, layout)
        self._capacity = capacity
        self._num_added = 0

    def __len__(self) -> int:
        return min(self._num_added, self._capacity)

    def add(self, transitions: Transitions, steps: npt.ArrayLike = 1) -> Changed:
        """Append transitions in order.

        Args:
            transitions: N of them, rewards already summed where they span several steps.
            steps: Environment steps that each spans, [N], or one number for all.
        """
        size = len(transitions.actions)
        slots = np.arange(self._num_added, self._num_added + size) % self._capacity
        for name, values in zip(_FIELDS, (*transitions, steps), strict=True):
            self._rows[name][slots] = values
        self._num_added += size
        return Changed(ready=slots, gone=slots[:0])

    def draw(self, size: int, rng: np.random.Generator) -> Slots:
        """Draw slots uniformly, with replacement.

        Raises:
            ValueError: The buffer is empty.
        """
        if len(self) == 0:
            raise ValueError("cannot sample from an empty replay buffer")
        return rng.integers(len(self), size=size)

    def batch(self, slots: Slots) -> Batch:
        """The transitions in these slots, copied."""
        rows = self._rows.take(slots)
        columns = {name: torch.from_numpy(rows[name]) for name in _FIELDS}
        return Batch(**columns, weights=torch.ones(len(slots)))

    def sample(self, size: int, rng: np.random.Generator) -> Batch:
        """Draw `size` transitions uniformly, with replacement.

        Raises:
            ValueError: The buffer is empty.
        """
        return self.batch(self.draw(size, rng))

    def tensors(self) -> dict[str, Tensor]:
        """The content, for `load_tensors` of a buffer of the same capacity."""
        filled = self._rows[: len(self)]
        columns = {name: torch.from_numpy(filled[name]) for name in _FIELDS}
        return columns | {"num_added": torch.tensor(self._num_added)}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take up the content that `tensors` gave."""
        self._num_added = int(tensors["num_added"])
        for name in _FIELDS:
            self._rows[name][: len(self)] = tensors[name].numpy()
