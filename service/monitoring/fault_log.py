"""Which decisions a heuristic had to give: named in the log, a line a second and reason at most."""

import time
from collections import Counter
from typing import Final

import numpy as np
import structlog

from service.inference.fallback import Chosen
from service.inference.questions import Batch

_EVERY_SECONDS: Final = 1.0
_MOST_NAMED: Final = 10

_log = structlog.get_logger(__name__)


class FaultLog:
    """Owns what is not told yet of one policy. Lives on the event loop."""

    def __init__(self, policy: str) -> None:
        self._policy = policy
        self._next_at: dict[str, float] = {}
        self._untold: Counter[str] = Counter()

    def tell(self, batch: Batch, chosen: Chosen) -> None:
        """Take a batch that was answered. An operator's pin is no fault."""
        for place, entry in enumerate(chosen.answered_by):
            if entry.reason is not None and entry.reason != "pinned":
                self._tell(batch, chosen, place, entry.reason)

    def _tell(self, batch: Batch, chosen: Chosen, place: int, reason: str) -> None:
        index = chosen.index
        rows = np.arange(len(chosen.actions)) if index is None else np.flatnonzero(index == place)
        now = time.monotonic()
        if now < self._next_at.get(reason, 0.0) or not len(rows):
            self._untold[reason] += len(rows)
            return
        self._next_at[reason] = now + _EVERY_SECONDS
        _log.warning(
            "heuristic_answered",
            policy=self._policy,
            reason=reason,
            variant=chosen.answered_by[place].variant,
            version=chosen.answered_by[place].version,
            rows=len(rows),
            decisions=_names(batch, rows[:_MOST_NAMED].tolist()),
            rows_untold=self._untold.pop(reason, 0),
        )


def _names(batch: Batch, rows: list[int]) -> list[str]:
    """`<decision_id>/<row>` of rows of a batch, ascending."""
    names, start = [], 0
    waiting = iter(rows)
    row = next(waiting, None)
    for question in batch.questions:
        while row is not None and row < start + question.rows:
            names.append(f"{question.decision_id}/{row - start}")
            row = next(waiting, None)
        start += question.rows
    return names
