"""The circuit breaker on a model: after enough bad batches it is left alone for a while.

Pure but for its own state: time is told, not read.
"""

from collections import deque
from typing import Final, Literal

State = Literal["closed", "half_open", "open"]

_CONSECUTIVE: Final = 5
_WINDOW: Final = 20
_FIRST_PAUSE_SECONDS: Final = 5.0
_LONGEST_PAUSE_SECONDS: Final = 60.0
_PROBES: Final = 3
"""Good batches in a row before a model that failed is trusted again."""


class Breaker:
    """Opens on 5 bad batches in a row, or on more than half bad of the last 20.

    While open the model is not asked. After a pause one batch at a time probes it; 3 good ones
    close the breaker, a bad one opens it for twice as long, up to a minute.
    """

    def __init__(self) -> None:
        self._state: State = "closed"
        self._outcomes: deque[bool] = deque(maxlen=_WINDOW)
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._opened_at = 0.0
        self._probes = 0
        self._is_probing = False

    @property
    def state(self) -> State:
        """As last decided: an open breaker becomes half open when it is asked after its pause."""
        return self._state

    def allows(self, now: float) -> bool:
        """Whether the model may be asked for a batch; a yes must be followed by `record`."""
        if self._state == "open" and now - self._opened_at >= self._pause_seconds:
            self._state, self._probes, self._is_probing = "half_open", 0, False
        if self._state == "half_open":
            is_free = not self._is_probing
            self._is_probing = True
            return is_free
        return self._state == "closed"

    def record(self, is_good: bool, now: float) -> None:
        """How a batch that was allowed went."""
        self._is_probing = False
        self._outcomes.append(is_good)
        if self._state == "half_open":
            self._record_probe(is_good, now)
        elif self._state == "closed" and not is_good and self._has_tripped():
            self._open(now)

    def reset(self) -> None:
        """Another version is live: what the last one did says nothing of it."""
        self._state, self._is_probing = "closed", False
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._outcomes.clear()

    def _record_probe(self, is_good: bool, now: float) -> None:
        if not is_good:
            self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)
            self._open(now)
            return
        self._probes += 1
        if self._probes == _PROBES:
            self.reset()

    def _has_tripped(self) -> bool:
        latest = list(self._outcomes)[-_CONSECUTIVE:]
        if len(latest) == _CONSECUTIVE and not any(latest):
            return True
        bad = len(self._outcomes) - sum(self._outcomes)
        return len(self._outcomes) == _WINDOW and bad > _WINDOW / 2

    def _open(self, now: float) -> None:
        self._state, self._opened_at = "open", now
        self._outcomes.clear()
