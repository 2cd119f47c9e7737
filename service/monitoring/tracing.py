"""Spans of decisions, sent by OTLP over HTTP. Imported only where a service is told to trace.

A decision's spans are made once it is answered, from times that are measured anyway: nothing is
done on the way, and nothing at all for requests that are not followed.
"""

import re
import time
from collections.abc import Sequence
from random import Random
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    set_span_in_context,
)

from contract.records import AnsweredBy
from service.inference.fallback import Chosen
from service.inference.live import Ran
from service.inference.questions import Batch, Question
from service.inference.traced import Traced

_TRACEPARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)
"""W3C Trace Context, level 1: version, trace, parent span, flags."""
_SAMPLED: Final = 1
_FLUSH_MILLISECONDS: Final = 2000


class Tracing:
    """Owns the exporter and its thread."""

    def __init__(self, endpoint: str, share: float, release: str, rng: Random) -> None:
        """Begin to trace.

        Args:
            endpoint: Such as `http://localhost:4318/v1/traces`.
            share: Of the requests that carry no `traceparent`, how many are followed.
            release: Of the service.
            rng: Draws that share.
        """
        resource = Resource.create({"service.name": "dqn-serving", "service.version": release})
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer("service")
        self._share = share
        self._rng = rng

    def begin(self, traceparent: bytes | None) -> Traced | None:
        """Whether a request is followed: as its own header says, else by chance."""
        found = None if traceparent is None else _TRACEPARENT.fullmatch(traceparent)
        if found is None:
            return Traced(None, None) if self._rng.random() < self._share else None
        if not int(found[3], 16) & _SAMPLED:
            return None
        return Traced(int(found[1], 16), int(found[2], 16))

    def called(self, questions: Sequence[Question], ran: Ran, num_rows: int) -> None:
        """A model was called with these questions among its rows."""
        for question in questions:
            if question.traced is not None:
                question.traced.call, question.traced.call_rows = ran, num_rows

    def answered(self, policy: str, batch: Batch, chosen: Chosen) -> None:
        """Make the spans of those of a batch that are followed."""
        row = 0
        for question in batch.questions:
            if question.traced is not None:
                place = 0 if chosen.index is None else int(chosen.index[row])
                self._tell(policy, question, question.traced, chosen.answered_by[place])
                # What the model says too late is another story.
                question.traced = None
            row += question.rows

    def close(self) -> None:
        """Send what waits; a receiver that is away is not waited for."""
        self._provider.force_flush(_FLUSH_MILLISECONDS)
        self._provider.shutdown()

    def _tell(self, policy: str, question: Question, traced: Traced, who: AnsweredBy) -> None:
        # Times are on a clock that knows no date.
        offset = time.time_ns() - time.perf_counter_ns()
        root = self._tracer.start_span(
            f"decide {policy}",
            _context_of(traced),
            SpanKind.SERVER,
            _attributes(policy, question, who),
            start_time=offset + _nanoseconds(question.arrived_at),
        )
        call = traced.call
        if call is not None:
            inside = set_span_in_context(root)
            began = offset + _nanoseconds(call.started_at)
            arrived = offset + _nanoseconds(question.arrived_at)
            self._tracer.start_span("queue", inside, start_time=arrived).end(began)
            model = self._tracer.start_span(
                "model", inside, start_time=began, attributes={"dqn.batch_rows": traced.call_rows}
            )
            model.end(began + _nanoseconds(call.seconds))
        root.end(time.time_ns())


def _context_of(traced: Traced) -> Context:
    if traced.trace_id is None or traced.parent_id is None:
        return Context()
    asked = SpanContext(traced.trace_id, traced.parent_id, True, TraceFlags(_SAMPLED))
    return set_span_in_context(NonRecordingSpan(asked), Context())


def _attributes(policy: str, question: Question, who: AnsweredBy) -> dict[str, Any]:
    """What is told of a decision: never what was seen."""
    told = {
        "dqn.policy": policy,
        "dqn.decision_id": question.decision_id,
        "dqn.rows": question.rows,
        "dqn.deadline_seconds": question.deadline - question.arrived_at,
        "dqn.version": who.version,
        "dqn.variant": who.variant,
        "dqn.source": who.source,
        "dqn.reason": who.reason,
    }
    return {name: value for name, value in told.items() if value is not None}


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
