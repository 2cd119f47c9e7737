"""What a policy has answered, as records of the transition log.

The event loop adds each batch to what the next record holds; the spool's thread makes the record.
Python's own work is done on the loop, a little with each batch, and the thread is left with few and
large calls: while it holds the interpreter's lock, every socket waits.
"""

import threading
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from contract.declaration import PolicyDeclaration
from contract.privacy import loggable_decisions
from contract.records import DecisionBatch
from service.experience.decision_rows import DecisionRows, Kind
from service.experience.shedding import SHED_FROM, Rank, kept_rows
from service.experience.spool import Spool
from service.inference.fallback import Chosen
from service.inference.questions import Batch, Question

_COMMIT_ROWS: Final = 4096
"""That are not left waiting for company: making a record of more holds the interpreter's lock for
milliseconds."""
_WAITING_BYTES: Final = 256 * 1024**2
"""Beyond it, with the disk stalled, decisions are dropped and counted."""
_SHED_FROM: Final = SHED_FROM[Rank.STUDY]
_SHED_BYTES: Final = int(_SHED_FROM * _WAITING_BYTES)


class _Answered(NamedTuple):
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


_PLAIN: Final = Kind(is_late=False, epsilon=0.0, frame_stack=1)
_PLAIN_LATE: Final = Kind(is_late=True, epsilon=0.0, frame_stack=1)


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
        self._waiting: list[DecisionRows] = []
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
        parts = _split(_Answered(time, batch, chosen, is_late), self._epsilon, self._frame_stack)
        if is_scarce:
            parts = [part for each in parts if (part := self._shed(each)) is not None]
        with self._mutex:
            for part in parts:
                size = part.batch.observations.nbytes // part.frame_stack
                kind = Kind(part.is_late, part.epsilon, part.frame_stack)
                self._keep(kind, size, part.time, part.batch, part.chosen)

    def _keep(self, kind: Kind, size: int, time: float, batch: Batch, chosen: Chosen) -> None:
        if not self._waiting or not self._waiting[-1].takes(kind, size):
            self._waiting.append(DecisionRows(kind))
        self._waiting[-1].add(size, time, batch, chosen)
        self._num_bytes += size
        self._num_rows += len(chosen.actions)
        if self._num_rows >= _COMMIT_ROWS:
            self._num_rows = 0
            self._spool.commit_soon()

    def _shed(self, part: _Answered) -> _Answered | None:
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


def _split(answered: _Answered, epsilon: float, frame_stack: int) -> list[_Answered]:
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


def _part(answered: _Answered, questions: list[Question], rows: npt.NDArray[np.bool_]) -> _Answered:
    batch = answered.batch
    masks = None if batch.action_masks is None else batch.action_masks[rows]
    return answered._replace(
        batch=Batch(questions, batch.observations[rows], masks),
        chosen=answered.chosen.part(rows),
    )
