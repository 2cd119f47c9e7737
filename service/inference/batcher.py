"""Concurrent questions into one call of the model, and every row its own answer.

Nothing waits for company: what has arrived when the model is free is the next batch. A small model
runs on the event loop, where whatever arrives meanwhile waits in the sockets; a large one in a
thread, where it waits here and is answered by the heuristic at its deadline.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import structlog

from contract.records import AnsweredBy
from service.errors import OverloadedError
from service.inference.fallback import Chosen, Fallback, Reason
from service.inference.live import Live, Ran, run
from service.inference.policy import Decided
from service.inference.questions import Batch, Question
from service.metrics import Counter, Metrics
from service.monitoring.q_health import QHealth

_MARGIN_SECONDS: Final = 0.001
"""A question goes to the heuristic so long before its deadline."""

_LEAST_GOOD_SHARE: Final = 0.5
"""A batch of which the model answered less counts against it: one client's poison does not."""

Log = Callable[[Batch, Chosen, bool], None]
"""Takes a batch, what was chosen, and whether it came too late to be an answer."""
_BREAKER_STATES: Final = {"closed": 0.0, "half_open": 1.0, "open": 2.0}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class BatcherLimits:
    """How much is taken at once, and how much may wait."""

    batch_max_rows: int
    queue_max_rows: int


class Batcher:
    """Owns a policy's queue and the pointer to the version that serves. Lives on the event loop."""

    def __init__(
        self,
        name: str,
        fallback: Fallback,
        observation_dtype: np.dtype[Any],
        limits: BatcherLimits,
        log: Log,
        metrics: Metrics,
        q_health: QHealth,
        executor: Executor,
    ) -> None:
        self._name = name
        self._fallback = fallback
        self._observation_dtype = observation_dtype
        self._limits = limits
        self._log = log
        self._q_health = q_health
        self._executor = executor
        self._queue: deque[Question] = deque()
        self._overload: list[Question] = []
        """The model would answer these too late: the heuristic takes them in the same turn."""
        self._running: list[Question] = []
        self._rows = 0
        """Not answered yet."""
        self._queued_rows = 0
        self._overload_rows = 0
        self._is_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._runs_until = 0.0
        """When the model is expected to be free, on `time.perf_counter`."""
        self.live: Live | None = None
        self.absence: Reason = "no_model"
        """Why the heuristic answers while nothing is live."""
        self.is_pinned = False
        """An operator wants the heuristic."""
        self._metrics = metrics
        self._decisions: dict[AnsweredBy, Counter] = {}
        self._queue_seconds = metrics.histogram("dqn_queue_seconds", name)
        self._inference_seconds = metrics.histogram("dqn_inference_seconds", name)
        self._batch_rows = metrics.histogram("dqn_batch_rows", name)
        self._decision_seconds = metrics.histogram("dqn_decision_seconds", name)
        self._deadline_missed = metrics.counter("dqn_deadline_missed_total", name)
        self._in_flight = metrics.counter("dqn_in_flight_rows", name)
        self._breaker_state = metrics.counter("dqn_breaker_state", name)
        self._shed = metrics.counter("dqn_shed_total", name)
        metrics.before_scrape.append(self._show_in_flight)

    @property
    def is_idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return self._rows == 0

    def submit(self, question: Question) -> None:
        """Take a question; its answer comes by its deadline.

        Raises:
            OverloadedError: So much is waiting that not even the heuristic is asked.
        """
        waiting, limit = self._rows, self._limits.queue_max_rows
        if waiting and waiting + question.rows > 2 * limit:
            self._shed.add(question.rows)
            raise OverloadedError(f"{waiting} rows are waiting for policy {self._name}")
        self._rows += question.rows
        is_full = self._rows - self._overload_rows > limit
        if waiting and (is_full or self._is_too_late_for_model(question)):
            self._overload.append(question)
            self._overload_rows += question.rows
        else:
            self._queue.append(question)
            self._queued_rows += question.rows
            if self.live is not None and not self.live.runs_inline:
                self._arm_timer(question.deadline)
            if self._running:
                return
        if not self._is_scheduled:
            self._is_scheduled = True
            # Runs once all sockets that are readable now have been read: they share the batch.
            asyncio.get_running_loop().call_soon(self._take_turn)

    def answer_without_model(self, question: Question, reason: Reason) -> None:
        """Let the heuristic answer at once."""
        self._rows += question.rows
        self._answer_by_heuristic([question], reason)

    def _is_too_late_for_model(self, question: Question) -> bool:
        """What waits already, and this, would end after the deadline."""
        live = self.live
        if live is None or self.is_pinned:
            return False
        begins_at = max(question.arrived_at, self._runs_until)
        ends_at = begins_at + live.cost.seconds(self._queued_rows + question.rows)
        return ends_at > question.deadline - _MARGIN_SECONDS

    def _take_turn(self) -> None:
        """Everything that arrived in this turn of the event loop is here."""
        self._is_scheduled = False
        overload, self._overload, self._overload_rows = self._overload, [], 0
        self._run_queue()
        self._answer_by_heuristic(overload, "overload")

    def _run_queue(self) -> None:
        """Give the model what waits, unless it is at work in its thread."""
        while self._queue and not self._running:
            questions = self._take()
            live = self.live
            if live is None or self.is_pinned:
                self._answer_by_heuristic(questions, "pinned" if self.is_pinned else self.absence)
                continue
            questions = self._give_up_late(questions)
            if not questions:
                continue
            started_at = time.perf_counter()
            is_allowed = live.breaker.allows(started_at)
            self._breaker_state.set(_BREAKER_STATES[live.breaker.state])
            if not is_allowed:
                self._answer_by_heuristic(questions, "breaker")
                continue
            batch = Batch.of(questions, self._observation_dtype)
            self._runs_until = started_at + live.cost.seconds(len(batch.observations))
            if live.runs_inline:
                ran = run(live.policy, batch)
                self._finish(batch, self._judge(batch, live, started_at, ran))
            else:
                self._run_in_thread(batch, live, started_at)

    def _take(self) -> list[Question]:
        questions = [self._queue.popleft()]
        rows = questions[0].rows
        while self._queue and rows + self._queue[0].rows <= self._limits.batch_max_rows:
            rows += self._queue[0].rows
            questions.append(self._queue.popleft())
        self._queued_rows -= rows
        return questions

    def _give_up_late(self, questions: list[Question]) -> list[Question]:
        """Answer those with no time left for the model; return the ones still to be answered."""
        limit = time.perf_counter() + _MARGIN_SECONDS
        if all(question.deadline > limit for question in questions):
            return questions
        self._answer_by_heuristic([q for q in questions if q.deadline <= limit], "deadline")
        return [question for question in questions if not question.is_answered]

    def _run_in_thread(self, batch: Batch, live: Live, started_at: float) -> None:
        self._running = batch.questions
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._executor, run, live.policy, batch)

        def finish(done: "asyncio.Future[Ran]") -> None:
            self._running = []
            chosen = self._judge(batch, live, started_at, done.result())
            # The model first: it is what there is least of, and goes on while answers are written.
            self._run_queue()
            self._finish(batch, chosen)

        future.add_done_callback(finish)

    def _judge(self, batch: Batch, live: Live, started_at: float, ran: Ran) -> Chosen | None:
        """What of the model's answer may be given; None where there is none."""
        decided, ended_at = ran.said, time.perf_counter()
        self._runs_until = 0.0
        if isinstance(decided, str):
            _log.error("model_failed", policy=self._name, error=decided)
            live.breaker.record(False, ended_at)
            return None
        live.cost.record(len(decided.actions), ran.seconds)
        self._measure(batch, started_at, ran.seconds, decided)
        chosen = self._fallback.contain(
            decided, live.answered_by, live.q_bound, batch.observations, batch.action_masks
        )
        live.breaker.record(chosen.share_of_model() > _LEAST_GOOD_SHARE, ended_at)
        return chosen

    def _finish(self, batch: Batch, chosen: Chosen | None) -> None:
        """Answer those of a batch that the model has seen and nobody has answered meanwhile."""
        if chosen is None:
            left = [question for question in batch.questions if not question.is_answered]
            self._answer_by_heuristic(left, "model_error")
            return
        answered = batch.answered_rows()
        if answered is None:
            self._deliver(batch, chosen)
            return
        # The heuristic answered these at their deadline; what the model would have said is kept.
        self._log(batch.part(answered, is_answered=True), chosen.part(answered), True)
        if not answered.all():
            self._deliver(batch.part(~answered, is_answered=False), chosen.part(~answered))

    def _measure(self, batch: Batch, started_at: float, seconds: float, decided: Decided) -> None:
        self._inference_seconds.observe(seconds)
        self._batch_rows.observe(len(decided.actions))
        self._queue_seconds.observe_each(
            [started_at - question.arrived_at for question in batch.questions]
        )
        self._q_health.observe(decided.q_values, decided.actions)

    def _answer_by_heuristic(self, questions: list[Question], reason: Reason) -> None:
        if questions:
            batch = Batch.of(questions, self._observation_dtype)
            version = None if self.live is None else self.live.answered_by.version
            self._deliver(
                batch,
                self._fallback.answer(batch.observations, batch.action_masks, version, reason),
            )

    def _deliver(self, batch: Batch, chosen: Chosen) -> None:
        """Tell each question its rows, count the batch and log it: nothing of it waits any more."""
        rows = len(chosen.actions)
        self._rows -= rows
        for entry, count in zip(chosen.answered_by, chosen.counts(), strict=True):
            self._counter(entry).add(count)
        batch.tell(chosen)
        self._measure_answers(batch.questions)
        self._log(batch, chosen, False)

    def _measure_answers(self, questions: list[Question]) -> None:
        """Take the time of answers that were just handed to their sockets."""
        now = time.perf_counter()
        self._decision_seconds.observe_each([now - each.arrived_at for each in questions])
        missed = sum(now > each.deadline for each in questions)
        if missed:
            self._deadline_missed.add(missed)

    def _show_in_flight(self) -> None:
        self._in_flight.set(self._rows)

    def _counter(self, entry: AnsweredBy) -> Counter:
        counter = self._decisions.get(entry)
        if counter is None:
            labels = (self._name, entry.variant, entry.source, entry.reason or "none")
            counter = self._metrics.counter("dqn_decisions_total", *labels)
            self._decisions[entry] = counter
        return counter

    def _arm_timer(self, deadline: float) -> None:
        at = deadline - _MARGIN_SECONDS
        if at >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        delay = max(0.0, at - time.perf_counter())
        self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        limit = time.perf_counter() + _MARGIN_SECONDS
        waiting = [q for q in (*self._running, *self._queue) if not q.is_answered]
        self._answer_by_heuristic([q for q in waiting if q.deadline <= limit], "deadline")
        self._queue = deque(question for question in self._queue if not question.is_answered)
        self._queued_rows = sum(question.rows for question in self._queue)
        left = [question.deadline for question in waiting if not question.is_answered]
        if left:
            self._arm_timer(min(left))
