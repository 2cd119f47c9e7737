"""What is kept of a request that somebody follows from its agent to its answer."""

from dataclasses import dataclass

from service.inference.live import Ran


@dataclass(slots=True)
class Traced:
    """One such request."""

    trace_id: int | None
    """Of the trace that it is part of; None begins one."""
    parent_id: int | None
    """The span that asked."""
    call: Ran | None = None
    """The model's call that saw it."""
    call_rows: int = 0
