"""What is told of one policy's decisions: how many, by whom, how soon."""

import time
from collections.abc import Mapping
from typing import Final

from contract.records import AnsweredBy
from service.inference.breaker import State
from service.inference.fallback import Chosen
from service.inference.live import Ran
from service.inference.policy import Decided
from service.inference.questions import Batch, Question
from service.inference.tracer import Tracer
from service.metrics import Counter, Metrics
from service.monitoring.q_health import QHealth

_BREAKER_STATES: Final[dict[State, float]] = {"closed": 0.0, "half_open": 1.0, "open": 2.0}


class Measures:
    """Owns the serving series of one policy."""

    def __init__(
        self,
        policy: str,
        metrics: Metrics,
        q_health: Mapping[str, QHealth],
        tracer: Tracer | None = None,
    ) -> None:
        self._policy = policy
        self._tracer = tracer
        self._metrics = metrics
        self._q_health = q_health
        self._decisions: dict[AnsweredBy, Counter] = {}
        self._queue_seconds = metrics.histogram("dqn_queue_seconds", policy)
        self._inference_seconds = metrics.histogram("dqn_inference_seconds", policy)
        self._batch_rows = metrics.histogram("dqn_batch_rows", policy)
        self._decision_seconds = metrics.histogram("dqn_decision_seconds", policy)
        self._deadline_missed = metrics.counter("dqn_deadline_missed_total", policy)
        self._breaker_state = metrics.counter("dqn_breaker_state", policy)
        self._shed = metrics.counter("dqn_shed_total", policy)

    def count_shed(self, rows: int) -> None:
        """Rows that nobody answers."""
        self._shed.add(rows)

    def show_breaker(self, state: State) -> None:
        """The state of the stable version's breaker."""
        self._breaker_state.set(_BREAKER_STATES[state])

    def measure_call(self, batch: Batch, ran: Ran, decided: Decided, variant: str) -> None:
        """One call of a model, and what it said."""
        self._inference_seconds.observe(ran.seconds)
        self._batch_rows.observe(len(decided.actions))
        self._queue_seconds.observe_each(
            [ran.started_at - question.arrived_at for question in batch.questions]
        )
        self._q_health[variant].observe(decided.q_values, decided.actions)
        if self._tracer is not None:
            self._tracer.called(batch.questions, ran, len(decided.actions))

    def count_decisions(self, chosen: Chosen) -> None:
        """Rows by who answered them."""
        for entry, count in zip(chosen.answered_by, chosen.counts(), strict=True):
            counter = self._decisions.get(entry)
            if counter is None:
                labels = (self._policy, entry.variant, entry.source, entry.reason or "none")
                counter = self._metrics.counter("dqn_decisions_total", *labels)
                self._decisions[entry] = counter
            counter.add(count)

    def measure_answers(self, questions: list[Question]) -> None:
        """The time of answers that were just handed to their sockets."""
        now = time.perf_counter()
        self._decision_seconds.observe_each([now - each.arrived_at for each in questions])
        missed = sum(now > each.deadline for each in questions)
        if missed:
            self._deadline_missed.add(missed)
