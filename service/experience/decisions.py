"""What a policy has answered, as records of the transition log.

The event loop adds each batch to what the next record holds; the spool's thread makes the record.
Python's own work is done on the loop, a little with each batch, and the thread is left with few and
large calls: while it holds the interpreter's lock, every socket waits.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from contract.declaration import PolicyDeclaration
from contract.privacy import loggable_decisions
from contract.records import AnsweredBy, Column, DecisionBatch
from service.experience.shedding import SHED_FROM, Rank, kept_rows
from service.experience.spool import Spool
from service.inference.fallback import Chosen
from service.inference.questions import Batch, Question

_RECORD_BYTES: Final = 8 * 1024**2
"""Of observations, at most, in one record; a larger batch is a record by itself."""
_COMMIT_ROWS: Final = 4096
"""That are not left waiting for company: making a record of more holds the interpreter's lock for
milliseconds."""
_WAITING_BYTES: Final = 256 * 1024**2
"""Beyond it, with the disk stalled, decisions are dropped and counted."""
_FLOAT16: Final = np.finfo(np.float16)
_SHED_FROM: Final = SHED_FROM[Rank.STUDY]
_SHED_BYTES: Final = int(_SHED_FROM * _WAITING_BYTES)

_NOBODY: Final = (None,)

_Value = TypeVar("_Value")
_Seldom = list[tuple[int, Sequence[_Value | None]]]
"""What few rows have: the first row, and what it and those behind it have."""


class Answered(NamedTuple):
    """One batch, and what its rows were given."""

    time: float
    """Unix seconds."""
    batch: Batch
    chosen: Chosen
    """A row for each row of the batch."""
    is_late: bool
    """The heuristic had answered already."""
    epsilon: float = 0.0
    """Probability of a random action, where the model chose."""
    frame_stack: int = 1
    """Above 1: of each row only the newest frame of so many is logged."""


class _Kind(NamedTuple):
    """What all batches of one record have in common."""

    is_late: bool
    epsilon: float
    frame_stack: int


_PLAIN: Final = _Kind(is_late=False, epsilon=0.0, frame_stack=1)
_PLAIN_LATE: Final = _Kind(is_late=True, epsilon=0.0, frame_stack=1)


class DecisionLog:
    """Owns the batches of one policy that are not on disk yet."""

    def __init__(self, policy: str, declaration: PolicyDeclaration, spool: Spool) -> None:
        self._policy = policy
        self._schema_hash = declaration.schema_hash
        self._rules = declaration.logging
        self._epsilon = declaration.exploration.epsilon
        self._frame_stack = declaration.observation.frame_stack
        self._is_mixed = self._epsilon > 0 or self._frame_stack > 1
        """Rows of one batch may belong into different records."""
        self._spool = spool
        self._mutex = threading.Lock()
        self._waiting: list[_Rows] = []
        self._num_bytes = 0
        self._num_rows = 0
        """Since the last commit was begun, or asked for."""
        spool.add_source(self._take)

    def add(self, time: float, batch: Batch, chosen: Chosen, *, is_late: bool) -> None:
        """Remember a batch, or what of it there is room for; the rest is counted as dropped.

        Args:
            time: Unix seconds.
            batch: What was asked.
            chosen: What its rows were given.
            is_late: The heuristic had answered already.
        """
        size = batch.observations.nbytes
        is_scarce = self._num_bytes + size >= _SHED_BYTES or self._spool.fullness >= _SHED_FROM
        if not (is_scarce or self._is_mixed):
            # Nearly every batch there is: nothing more is made of it than is kept.
            with self._mutex:
                self._keep(_PLAIN_LATE if is_late else _PLAIN, size, time, batch, chosen)
            return
        parts = _split(Answered(time, batch, chosen, is_late), self._epsilon, self._frame_stack)
        if is_scarce:
            parts = [part for each in parts if (part := self._shed(each)) is not None]
        with self._mutex:
            for part in parts:
                size = part.batch.observations.nbytes // part.frame_stack
                kind = _Kind(part.is_late, part.epsilon, part.frame_stack)
                self._keep(kind, size, part.time, part.batch, part.chosen)

    def _keep(self, kind: "_Kind", size: int, time: float, batch: Batch, chosen: Chosen) -> None:
        if not self._waiting or not self._waiting[-1].takes(kind, size):
            self._waiting.append(_Rows(kind))
        self._waiting[-1].add(size, time, batch, chosen)
        self._num_bytes += size
        self._num_rows += len(chosen.actions)
        if self._num_rows >= _COMMIT_ROWS:
            self._num_rows = 0
            self._spool.commit_soon()

    def _shed(self, part: Answered) -> Answered | None:
        """What of a batch is logged still; None where nothing is."""
        size = part.batch.observations.nbytes // part.frame_stack
        backlog = (self._num_bytes + size) / _WAITING_BYTES
        fullness = max(backlog, self._spool.fullness)
        kept, rows = kept_rows(part.batch, part.chosen, part.is_late, fullness)
        if len(kept) == len(part.batch.questions):
            return part
        is_backlogged = backlog > self._spool.fullness
        self._spool.count_dropped(int((~rows).sum()), is_backlogged=is_backlogged)
        return _part(part, kept, rows) if kept else None

    def _take(self) -> tuple[list[DecisionBatch], list[Callable[[], None]]]:
        """What is to be written now, and who is to be told once it is; on the spool's thread."""
        with self._mutex:
            waiting, self._waiting = self._waiting, []
            self._num_bytes = self._num_rows = 0
        records = [rows.record(self._policy, self._schema_hash) for rows in waiting]
        loggable = [loggable_decisions(record, self._rules) for record in records]
        records = [record for record in loggable if record is not None]
        return records, [call for rows in waiting for call in rows.on_durable]


class _Rows:
    """What one record will hold: batches of one kind, in order."""

    def __init__(self, kind: _Kind) -> None:
        self._kind = kind
        self._time = 0.0
        self._num_bytes = 0
        self._decision_ids: list[str] = []
        self._row_counts: list[int] = []
        self._episode_ids: list[str | None] = []
        self._steps: list[int | None] = []
        self._tags: _Seldom[dict[str, str]] = []
        self._salts: _Seldom[str] = []
        # Arrays, not the questions: each holds its whole request, and to free a thousand of them at
        # once keeps the interpreter's lock for milliseconds.
        self._observations: list[npt.NDArray[Any]] = []
        self._masks: list[npt.NDArray[np.bool_] | None] = []
        self._chosen: list[Chosen] = []
        self._places: dict[AnsweredBy, int] = {}
        self._newest: AnsweredBy | None = None
        self._place = 0
        """Of the newest."""
        self._index: list[int] = []
        self.on_durable: list[Callable[[], None]] = []

    def takes(self, kind: _Kind, size: int) -> bool:
        """There is room for a batch of so many bytes, and it is of the same kind."""
        return self._num_bytes + size <= _RECORD_BYTES and self._kind == kind

    def add(self, size: int, time: float, batch: Batch, chosen: Chosen) -> None:
        """Take one batch."""
        self._time = time
        self._num_bytes += size
        seen = batch.observations
        # A copy of the newest frames lets the whole stacks go.
        self._observations.append(seen[:, -1].copy() if self._kind.frame_stack > 1 else seen)
        self._masks.append(batch.action_masks)
        self._chosen.append(chosen)
        for question in batch.questions:
            rows = question.rows
            if question.tags is not None:
                self._tags.append((len(self._steps), [question.tags] * rows))
            if question.salts is not None:
                self._salts.append((len(self._steps), question.salts))
            if question.on_durable is not None:
                self.on_durable.append(question.on_durable)
            self._decision_ids.append(question.decision_id)
            self._row_counts.append(rows)
            self._episode_ids += question.episode_ids or _NOBODY * rows
            self._steps += question.steps or _NOBODY * rows
        if chosen.index is None:
            (entry,) = chosen.answered_by
            if entry is not self._newest:
                self._newest, self._place = entry, self._place_of(entry)
            self._index += (self._place,) * len(chosen.actions)
        else:
            places = [self._place_of(entry) for entry in chosen.answered_by]
            self._index += [places[entry] for entry in chosen.index.tolist()]

    def _place_of(self, entry: AnsweredBy) -> int:
        return self._places.setdefault(entry, len(self._places))

    def record(self, policy: str, schema_hash: str) -> DecisionBatch:
        """All of it, in columns."""
        chosen = self._chosen
        is_late, epsilon, frame_stack = self._kind
        return DecisionBatch(
            policy=policy,
            schema_hash=schema_hash,
            time=self._time,
            decision_ids=self._decision_ids,
            row_counts=self._row_counts,
            episode_ids=self._episode_ids,
            steps=self._steps,
            observations=Column.of(_join(self._observations)),
            action_masks=_mask_column(self._masks, chosen),
            actions=Column.of(_join([each.actions for each in chosen])),
            propensities=Column.of(
                _join([each.propensities for each in chosen]).astype(np.float32)
            ),
            q_values=_q_value_column(chosen),
            answered_by=list(self._places),
            answered_by_index=self._index if len(self._places) > 1 else None,
            epsilon=epsilon,
            is_late=is_late,
            tags=_column(self._tags, len(self._steps)),
            frame_stack=frame_stack,
            salts=_column(self._salts, len(self._steps)),
        )


def _split(answered: Answered, epsilon: float, frame_stack: int) -> list[Answered]:
    """Rows apart by what one record has in common: its epsilon, and how observations are logged."""
    batch = answered.batch
    kinds = [
        (epsilon if each.explores else 0.0, frame_stack if each.logs_newest_frame else 1)
        for each in batch.questions
    ]
    distinct = sorted(set(kinds))
    if len(distinct) == 1:
        return [answered._replace(epsilon=distinct[0][0], frame_stack=distinct[0][1])]
    kind_of_row = np.repeat(
        [distinct.index(kind) for kind in kinds], [each.rows for each in batch.questions]
    )
    parts = []
    for place, kind in enumerate(distinct):
        asked = [each for each, its in zip(batch.questions, kinds, strict=True) if its == kind]
        part = _part(answered, asked, kind_of_row == place)
        parts.append(part._replace(epsilon=kind[0], frame_stack=kind[1]))
    return parts


def _part(answered: Answered, questions: list[Question], rows: npt.NDArray[np.bool_]) -> Answered:
    batch = answered.batch
    masks = None if batch.action_masks is None else batch.action_masks[rows]
    return answered._replace(
        batch=Batch(questions, batch.observations[rows], masks),
        chosen=answered.chosen.part(rows),
    )


def _column(seldom: "_Seldom[_Value]", num_rows: int) -> list[_Value | None] | None:
    """What few rows have, for all rows; None where none has it."""
    if not seldom:
        return None
    values: list[_Value | None] = [None] * num_rows
    for start, given in seldom:
        values[start : start + len(given)] = given
    return values


def _mask_column(
    masks: Sequence[npt.NDArray[np.bool_] | None], chosen: Sequence[Chosen]
) -> Column | None:
    width = next((mask.shape[1] for mask in masks if mask is not None), None)
    if width is None:
        return None
    filled = [
        np.ones((len(each.actions), width), dtype=np.bool_) if mask is None else mask
        for each, mask in zip(chosen, masks, strict=True)
    ]
    return Column.of(_join(filled))


def _q_value_column(chosen: Sequence[Chosen]) -> Column | None:
    width = next((each.q_values.shape[1] for each in chosen if each.q_values is not None), None)
    if width is None:
        return None
    filled = [
        np.full((len(each.actions), width), np.nan, dtype=np.float32)
        if each.q_values is None
        else each.q_values
        for each in chosen
    ]
    # Clipped, since half precision would turn a large value into an infinity.
    return Column.of(_join(filled).clip(_FLOAT16.min, _FLOAT16.max).astype(np.float16))


def _join(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
