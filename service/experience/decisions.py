"""What a policy has answered, as records of the transition log.

The event loop only remembers each batch. The spool's thread puts together what one commit holds, so
that the log costs a server that answers ten thousand times a second little more than one that
answers ten times.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from contract.records import AnsweredBy, Column, DecisionBatch
from service.experience.spool import Spool
from service.inference.fallback import Chosen
from service.inference.questions import Batch

_RECORD_BYTES: Final = 8 * 1024**2
"""Of observations, at most, in one record; a larger batch is a record by itself."""
_WAITING_BYTES: Final = 256 * 1024**2
"""Beyond it, with the disk stalled, decisions are dropped and counted."""
_FLOAT16: Final = np.finfo(np.float16)


@dataclass(frozen=True, slots=True)
class Answered:
    """One batch, and what its rows were given."""

    time: float
    """Unix seconds."""
    batch: Batch
    chosen: Chosen
    """A row for each row of the batch."""
    is_late: bool
    """The heuristic had answered already."""


class DecisionLog:
    """Owns the batches of one policy that are not on disk yet."""

    def __init__(self, policy: str, schema_hash: str, spool: Spool) -> None:
        self._policy = policy
        self._schema_hash = schema_hash
        self._spool = spool
        self._mutex = threading.Lock()
        self._waiting: list[Answered] = []
        self._bytes = 0
        spool.add_source(self._take)

    def add(self, answered: Answered) -> None:
        """Remember a batch; dropped, and counted, where the spool accepts nothing or stalls."""
        size = answered.batch.observations.nbytes
        if self._spool.drops(is_backlogged=self._bytes + size > _WAITING_BYTES):
            return
        with self._mutex:
            self._waiting.append(answered)
            self._bytes += size

    def _take(self) -> tuple[list[DecisionBatch], list[Callable[[], None]]]:
        """What is to be written now, and who is to be told once it is; on the spool's thread."""
        with self._mutex:
            waiting, self._waiting, self._bytes = self._waiting, [], 0
        records = [
            decision_record(self._policy, self._schema_hash, group) for group in _groups(waiting)
        ]
        told = [
            question.on_durable
            for answered in waiting
            for question in answered.batch.questions
            if question.on_durable is not None
        ]
        return records, told


def decision_record(policy: str, schema_hash: str, group: Sequence[Answered]) -> DecisionBatch:
    """The record of batches, in order; at least one, all late or none."""
    questions = [question for answered in group for question in answered.batch.questions]
    answered_by, index = _who(group)
    return DecisionBatch(
        policy=policy,
        schema_hash=schema_hash,
        time=group[-1].time,
        decision_ids=[question.decision_id for question in questions],
        row_counts=[question.rows for question in questions],
        episode_ids=[each for answered in group for each in answered.batch.column("episode_ids")],
        steps=[each for answered in group for each in answered.batch.column("steps")],
        observations=Column.of(_join([answered.batch.observations for answered in group])),
        action_masks=_masks(group),
        actions=Column.of(_join([answered.chosen.actions for answered in group])),
        propensities=Column.of(
            _join([answered.chosen.propensities for answered in group]).astype(np.float32)
        ),
        q_values=_q_values(group),
        answered_by=answered_by,
        answered_by_index=index,
        is_late=group[0].is_late,
    )


def _groups(waiting: Sequence[Answered]) -> Iterator[list[Answered]]:
    """Runs that one record may hold."""
    group: list[Answered] = []
    size = 0
    for answered in waiting:
        added = answered.batch.observations.nbytes
        if group and (size + added > _RECORD_BYTES or group[0].is_late != answered.is_late):
            yield group
            group, size = [], 0
        group.append(answered)
        size += added
    if group:
        yield group


def _who(group: Sequence[Answered]) -> tuple[list[AnsweredBy], list[int] | None]:
    """All entries, each once, and row to entry; None for the rows where one entry fits all."""
    places: dict[AnsweredBy, int] = {}
    index: list[int] = []
    for answered in group:
        own = [places.setdefault(entry, len(places)) for entry in answered.chosen.answered_by]
        if answered.chosen.index is None:
            index += own * len(answered.chosen.actions)
        else:
            index += [own[entry] for entry in answered.chosen.index.tolist()]
    return list(places), index if len(places) > 1 else None


def _masks(group: Sequence[Answered]) -> Column | None:
    masks = [answered.batch.action_masks for answered in group]
    width = next((mask.shape[1] for mask in masks if mask is not None), None)
    if width is None:
        return None
    filled = [
        np.ones((len(answered.chosen.actions), width), dtype=np.bool_) if mask is None else mask
        for answered, mask in zip(group, masks, strict=True)
    ]
    return Column.of(_join(filled))


def _q_values(group: Sequence[Answered]) -> Column | None:
    q_values = [answered.chosen.q_values for answered in group]
    width = next((values.shape[1] for values in q_values if values is not None), None)
    if width is None:
        return None
    filled = [
        np.full((len(answered.chosen.actions), width), np.nan, dtype=np.float32)
        if values is None
        else values
        for answered, values in zip(group, q_values, strict=True)
    ]
    # Clipped, since half precision would turn a large value into an infinity.
    clipped = _join(filled).clip(_FLOAT16.min, _FLOAT16.max)
    return Column.of(clipped.astype(np.float16))


def _join(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
