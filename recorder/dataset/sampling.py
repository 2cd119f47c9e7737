"""A dataset compressed in memory, from which transitions are drawn at random."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from recorder.dataset.manifest import DatasetError
from recorder.dataset.transitions import LoggedTransitions, Part

_SLICE = 1024
"""Transitions that are unpacked at a time where all are taken."""


class TransitionSampler:
    """Transitions of several parts, in order; a million of Atari's frames take about 100 MB."""

    def __init__(self, opened: Sequence[tuple[Part, npt.NDArray[np.bool_]]]) -> None:
        shapes = {part.manifest.layout for part, _ in opened}
        if len(shapes) > 1:
            raise DatasetError(
                f"expected observations of one shape, found {sorted(map(str, shapes))}"
            )
        self._parts = [part for part, _ in opened]
        self._places = [part.steps_of(chosen) for part, chosen in opened]
        self._firsts = np.cumsum([0, *(len(places) for places in self._places)])

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def sample(self, size: int, rng: np.random.Generator) -> LoggedTransitions:
        """Draw `size` transitions with replacement."""
        return self.take(rng.integers(len(self), size=size))

    def take(self, indices: npt.NDArray[np.int64]) -> LoggedTransitions:
        """The transitions with these indices in [0, len), in this order."""
        owners = np.searchsorted(self._firsts, indices, side="right") - 1
        filled: LoggedTransitions | None = None
        for owner in np.unique(owners).tolist():
            here = owners == owner
            places = self._places[owner][indices[here] - self._firsts[owner]]
            taken: LoggedTransitions = self._parts[owner].take(places)
            if len(places) == len(indices):
                return taken
            if filled is None:
                filled = _room_for(len(indices), taken)
            _put(filled, here, taken)
        if filled is None:
            raise ValueError("expected at least one index")
        return filled

    def take_all(self) -> LoggedTransitions:
        """Every transition, in order, in arrays that are filled a slice at a time."""
        filled = _room_for(len(self), self.take(np.arange(1)))
        for start in range(0, len(self), _SLICE):
            taken = self.take(np.arange(start, min(start + _SLICE, len(self))))
            _put(filled, slice(start, start + _SLICE), taken)
        return filled


def _room_for(number: int, like: LoggedTransitions) -> LoggedTransitions:
    return LoggedTransitions._make(
        np.empty((number, *column.shape[1:]), column.dtype) for column in like
    )


def _put(
    filled: LoggedTransitions, where: slice | npt.NDArray[np.bool_], taken: LoggedTransitions
) -> None:
    pairs: list[tuple[Any, Any]] = list(zip(filled, taken, strict=True))
    for column, values in pairs:
        column[where] = values
