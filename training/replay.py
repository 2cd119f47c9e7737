"""The replay: a ring of transitions in preallocated columns."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


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
    next_observations: Tensor
    terminated: Tensor
    truncated: Tensor


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
        self._columns = Batch(
            *(
                torch.empty((capacity, *field.shape[1:]), dtype=torch.from_numpy(field).dtype)
                for field in fields
            )
        )
        # The same memory seen from numpy, which writes a few rows faster than torch does.
        self._writable = [column.numpy() for column in self._columns]
        self._capacity = capacity
        self._num_added = 0

    def __len__(self) -> int:
        return min(self._num_added, self._capacity)

    def add(self, transitions: Transitions) -> None:
        """Append transitions in order."""
        size = len(transitions.actions)
        slots = np.arange(self._num_added, self._num_added + size) % self._capacity
        for column, values in zip(self._writable, transitions, strict=True):
            column[slots] = values
        self._num_added += size

    def sample(self, size: int, rng: np.random.Generator) -> Batch:
        """Draw `size` transitions uniformly, with replacement."""
        if len(self) == 0:
            raise ValueError("cannot sample from an empty replay buffer")
        slots = torch.from_numpy(rng.integers(len(self), size=size))
        return Batch(*(column.index_select(0, slots) for column in self._columns))

    def tensors(self) -> dict[str, Tensor]:
        """The content, for `load_tensors` of a buffer of the same capacity."""
        filled = {name: column[: len(self)] for name, column in self._columns._asdict().items()}
        return filled | {"num_added": torch.tensor(self._num_added)}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take up the content that `tensors` gave."""
        self._num_added = int(tensors["num_added"])
        for name, column in self._columns._asdict().items():
            column[: len(self)] = tensors[name]
