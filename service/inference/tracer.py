"""Who tells of decisions that are followed.

Nothing here knows OpenTelemetry: it is imported only where a service is told to trace.
"""

from collections.abc import Sequence
from typing import Protocol

from service.inference.fallback import Chosen
from service.inference.live import Ran
from service.inference.questions import Batch, Question
from service.inference.traced import Traced


class Tracer(Protocol):
    """Is asked about every request, and told of every batch."""

    def begin(self, traceparent: bytes | None) -> Traced | None:
        """Whether a request is followed: as its own header says, else by chance."""

    def called(self, questions: Sequence[Question], ran: Ran, num_rows: int) -> None:
        """A model was called with these questions among its rows."""

    def answered(self, policy: str, batch: Batch, chosen: Chosen) -> None:
        """A batch was answered."""

    def close(self) -> None:
        """Send what waits."""
