"""The replay: a ring of transitions in preallocated columns."""

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

    `terminated` and `truncated` stay two columns: only the first ends the value of what follows.
    """

    def __init__(
        self, capacity: int, observation_shape: tuple[int, ...], observation_dtype: npt.DTypeLike
    ) -> None:
        observations = np.empty((0, *observation_shape), observation_dtype)
        fields = Transitions(
            observations=observations,
            actions=np.empty(0, np.int64),
            rewards=np.empty(0, np.float32),
            next_observations=observations,
            terminated=np.empty(0, np.bool_),
            truncated=np.empty(0, np.bool_),
        )
        columns = [
            torch.empty((capacity, *field.shape[1:]), dtype=torch.from_numpy(field).dtype)
            for field in fields
        ]
        self._columns = dict(zip(Transitions._fields, columns, strict=True))
        self._columns["steps"] = torch.empty(capacity, dtype=torch.uint8)
        # The same memory seen from numpy, which writes a few rows faster than torch does.
        self._writable = [column.numpy() for column in self._columns.values()]
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
        for column, values in zip(self._writable, (*transitions, steps), strict=True):
            column[slots] = values
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
        rows = torch.from_numpy(slots)
        columns = {name: column.index_select(0, rows) for name, column in self._columns.items()}
        return Batch(**columns, weights=torch.ones(len(slots)))

    def sample(self, size: int, rng: np.random.Generator) -> Batch:
        """Draw `size` transitions uniformly, with replacement.

        Raises:
            ValueError: The buffer is empty.
        """
        return self.batch(self.draw(size, rng))

    def tensors(self) -> dict[str, Tensor]:
        """The content, for `load_tensors` of a buffer of the same capacity."""
        filled = {name: column[: len(self)] for name, column in self._columns.items()}
        return filled | {"num_added": torch.tensor(self._num_added)}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take up the content that `tensors` gave."""
        self._num_added = int(tensors["num_added"])
        for name, column in self._columns.items():
            column[: len(self)] = tensors[name]
