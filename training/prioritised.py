"""Which transitions to learn from, and how much each counts: prioritised replay."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.sum_tree import SumTree

SMALLEST_PRIORITY = 1e-6
"""Added to every error, so that nothing is never drawn again; no less than one unit."""

_UNIT = float(1 << 20)
"""Priorities are whole multiples of 1 / 2**20: a million of the largest still fit 64 bits."""

_LARGEST_WEIGHT = float(1 << 42)

Slots = npt.NDArray[np.int64]


class Priorities:
    """Draws slots of a replay in proportion to error**exponent (Schaul et al., 2016)."""

    def __init__(self, capacity: int, exponent: float) -> None:
        self._exponent = exponent
        self._tree = SumTree(capacity)
        self._largest = 1.0

    def admit(self, slots: Slots) -> None:
        """Give what is new the largest priority so far, so that it is soon drawn once."""
        weight = int(min(self._largest**self._exponent * _UNIT, _LARGEST_WEIGHT))
        self._tree.set(slots, np.full(len(slots), weight))

    def forget(self, slots: Slots) -> None:
        """Draw these no more."""
        self._tree.set(slots, np.zeros(len(slots), np.int64))

    def draw(self, size: int, rng: np.random.Generator) -> Slots:
        """Draw slots, one from each of `size` equal parts of all priorities.

        Raises:
            ValueError: There is nothing to draw from.
        """
        total = self._tree.total
        if total == 0:
            raise ValueError("cannot sample from an empty replay buffer")
        positions = ((np.arange(size) + rng.random(size)) * (total / size)).astype(np.int64)
        # The last position may be rounded up to the total, where no leaf is.
        return self._tree.find(np.minimum(positions, total - 1))

    def importance_weights(self, slots: Slots, correction: float) -> Tensor:
        """P(slot)**-correction over the largest of the batch, [len(slots)].

        Args:
            slots: As drawn.
            correction: beta; 1 undoes the whole bias of drawing unevenly.
        """
        # The paper's factor of the number of slots cancels out.
        weights = (self._tree.weights[slots] * (1.0 / _UNIT)) ** -correction
        return torch.from_numpy((weights / weights.max()).astype(np.float32))

    def update(self, slots: Slots, errors: npt.NDArray[np.float32]) -> None:
        """Remember how wrong the predictions of these slots were, [N]."""
        priorities = errors + SMALLEST_PRIORITY
        self._largest = max(self._largest, float(priorities.max()))
        weights = priorities**self._exponent * _UNIT
        if self._largest**self._exponent * _UNIT > _LARGEST_WEIGHT:
            weights = np.minimum(weights, _LARGEST_WEIGHT)
        self._tree.set(slots, weights.astype(np.int64))

    def tensors(self) -> dict[str, Tensor]:
        """All of it, for `load_tensors` of priorities of the same capacity."""
        return {
            "weights": torch.from_numpy(self._tree.weights),
            "largest": torch.tensor(self._largest, dtype=torch.float64),
        }

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take up what `tensors` gave."""
        self._tree.rebuild(tensors["weights"].numpy())
        self._largest = float(tensors["largest"])
