"""What one record of the transition log will hold: batches, put together as they come."""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from contract.records import AnsweredBy, Column, DecisionBatch
from service.inference.fallback import Chosen
from service.inference.questions import Batch

_RECORD_BYTES: Final = 8 * 1024**2
"""Of observations, at most, in one record; a larger batch is a record by itself."""
_FLOAT16: Final = np.finfo(np.float16)
_NOBODY: Final = (None,)

_Value = TypeVar("_Value")
_Seldom = list[tuple[int, Sequence[_Value | None]]]
"""What few rows have: the first row, and what it and those behind it have."""


class Kind(NamedTuple):
    """What all batches of one record have in common."""

    is_late: bool
    epsilon: float
    frame_stack: int


class _Filling:
    """One array, put together batch by batch.

    As bytes: the batches' own arrays go at once, and their memory, still in the processor's cache,
    is the next batch's. Kept until the commit they are a megabyte that every request misses.
    """

    __slots__ = ("_content", "_dtype", "_fill", "_missing", "_shape")

    def __init__(self, fill: float | None = None) -> None:
        """`fill` is for the rows of batches that have no such array."""
        self._content = bytearray()
        self._dtype: np.dtype[Any] | None = None
        self._shape: tuple[int, ...] = ()
        self._fill = fill
        self._missing = 0

    def add(self, array: npt.NDArray[Any] | None, rows: int) -> None:
        """Take a batch's, of so many rows."""
        if array is None:
            self._missing += rows
            return
        if array.dtype is not self._dtype:
            array = self._adopt(array)
        if self._missing:
            self._fill_up()
        self._content += array.tobytes()

    def array(self) -> npt.NDArray[Any] | None:
        """All rows; None where no batch had any."""
        return None if self._dtype is None else self.rows()

    def rows(self) -> npt.NDArray[Any]:
        """All rows, of which there are some."""
        if self._missing:
            self._fill_up()
        return np.frombuffer(self._content, self._dtype).reshape((-1, *self._shape))

    def _adopt(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self._dtype is None:
            self._dtype, self._shape = array.dtype, array.shape[1:]
        return array.astype(self._dtype, copy=False)

    def _fill_up(self) -> None:
        shape = (self._missing, *self._shape)
        self._content += np.full(shape, self._fill, self._dtype).tobytes()
        self._missing = 0


class DecisionRows:
    """What one record will hold: batches of one kind, in order."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._time = 0.0
        self._num_bytes = 0
        self._decision_ids: list[str] = []
        self._row_counts: list[int] = []
        self._episode_ids: list[str | None] = []
        self._steps: list[int | None] = []
        self._tags: _Seldom[dict[str, str]] = []
        self._salts: _Seldom[str] = []
        self._observations = _Filling()
        self._masks = _Filling(True)
        self._actions = _Filling()
        self._propensities = _Filling()
        self._q_values = _Filling(np.nan)
        self._places: dict[AnsweredBy, int] = {}
        self._newest: AnsweredBy | None = None
        self._place = 0
        """Of the newest."""
        self._index: list[int] = []
        self.on_durable: list[Callable[[], None]] = []

    def takes(self, kind: Kind, size: int) -> bool:
        """There is room for a batch of so many bytes, and it is of the same kind."""
        return self._num_bytes + size <= _RECORD_BYTES and self._kind == kind

    def add(self, size: int, time: float, batch: Batch, chosen: Chosen) -> None:
        """Take one batch."""
        self._time = time
        self._num_bytes += size
        seen, rows = batch.observations, len(chosen.actions)
        self._observations.add(seen[:, -1] if self._kind.frame_stack > 1 else seen, rows)
        self._masks.add(batch.action_masks, rows)
        self._actions.add(chosen.actions, rows)
        self._propensities.add(chosen.propensities, rows)
        self._q_values.add(chosen.q_values, rows)
        for question in batch.questions:
            asked = question.rows
            if question.tags is not None:
                self._tags.append((len(self._steps), [question.tags] * asked))
            if question.salts is not None:
                self._salts.append((len(self._steps), question.salts))
            if question.on_durable is not None:
                self.on_durable.append(question.on_durable)
            self._decision_ids.append(question.decision_id)
            self._row_counts.append(asked)
            self._episode_ids += question.episode_ids or _NOBODY * asked
            self._steps += question.steps or _NOBODY * asked
        if chosen.index is None:
            (entry,) = chosen.answered_by
            if entry is not self._newest:
                self._newest, self._place = entry, self._place_of(entry)
            self._index += (self._place,) * rows
        else:
            places = [self._place_of(entry) for entry in chosen.answered_by]
            self._index += [places[entry] for entry in chosen.index.tolist()]

    def _place_of(self, entry: AnsweredBy) -> int:
        return self._places.setdefault(entry, len(self._places))

    def record(self, policy: str, schema_hash: str) -> DecisionBatch:
        """All of it, in columns."""
        is_late, epsilon, frame_stack = self._kind
        q_values = self._q_values.array()
        if q_values is not None:
            # Clipped, since half precision would turn a large value into an infinity.
            q_values = q_values.clip(_FLOAT16.min, _FLOAT16.max).astype(np.float16)
        return DecisionBatch(
            policy=policy,
            schema_hash=schema_hash,
            time=self._time,
            decision_ids=self._decision_ids,
            row_counts=self._row_counts,
            episode_ids=self._episode_ids,
            steps=self._steps,
            observations=Column.of(self._observations.rows()),
            action_masks=_column_of(self._masks.array()),
            actions=Column.of(self._actions.rows()),
            propensities=Column.of(self._propensities.rows().astype(np.float32)),
            q_values=_column_of(q_values),
            answered_by=list(self._places),
            answered_by_index=self._index if len(self._places) > 1 else None,
            epsilon=epsilon,
            is_late=is_late,
            tags=_column(self._tags, len(self._steps)),
            frame_stack=frame_stack,
            salts=_column(self._salts, len(self._steps)),
        )


def _column(seldom: "_Seldom[_Value]", num_rows: int) -> list[_Value | None] | None:
    """What few rows have, for all rows; None where none has it."""
    if not seldom:
        return None
    values: list[_Value | None] = [None] * num_rows
    for start, given in seldom:
        values[start : start + len(given)] = given
    return values


def _column_of(array: npt.NDArray[Any] | None) -> Column | None:
    return None if array is None else Column.of(array)
