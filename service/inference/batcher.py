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
from dataclasses import dataclass, field
from typing import Final

import structlog

from contract.records import AnsweredBy
from service.errors import OverloadedError
from service.inference.breaker import Breaker
from service.inference.cost import CostModel
from service.inference.fallback import Chosen, Fallback, Reason
from service.inference.policy import Decided, Policy
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
class Live:
    """A version that takes traffic."""

    policy: Policy
    bundle_sha256: str
    answered_by: AnsweredBy
    q_bound: float | None
    runs_inline: bool
    """It is quick enough to run on the event loop."""
    cost: CostModel
    breaker: Breaker = field(default_factory=Breaker)


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
        limits: BatcherLimits,
        log: Log,
        metrics: Metrics,
        q_health: QHealth,
        executor: Executor,
    ) -> None:
        self._name = name
        self._fallback = fallback
        self._limits = limits
        self._log = log
        self._q_health = q_health
        self._executor = executor
        self._queue: deque[Question] = deque()
        self._running: list[Question] = []
        self._rows = 0
        """Not answered yet: queued and running."""
        self._queued_rows = 0
        self._overflow_rows = 0
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
        self._in_flight = metrics.counter("dqn_in_flight_rows", name)
        self._breaker_state = metrics.counter("dqn_breaker_state", name)
        self._shed = metrics.counter("dqn_shed_total", name)

    @property
    def is_idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return not self._queue and not self._running

    def submit(self, question: Question) -> None:
        """Take a question; its answer comes by its deadline.

        Raises:
            OverloadedError: So much is waiting that not even the heuristic is asked.
        """
        if self._rows and self._is_too_late_for_model(question):
            self.answer_without_model(question, "overload")
            return
        waiting, limit = self._rows, self._limits.queue_max_rows
        if waiting and waiting + self._overflow_rows + question.rows > 2 * limit:
            self._shed.add(question.rows)
            raise OverloadedError(f"{waiting} rows are waiting for policy {self._name}")
        self._rows += question.rows
        self._in_flight.set(self._rows)
        if waiting and self._rows > limit:
            self._overflow_rows += question.rows
            self._answer_by_heuristic([question], "overload")
            return
        self._queue.append(question)
        self._queued_rows += question.rows
        if not self._is_scheduled and not self._running:
            self._is_scheduled = True
            # Runs once all sockets that are readable now have been read: they share the batch.
            asyncio.get_running_loop().call_soon(self._run_queue)
        if self.live is not None and not self.live.runs_inline:
            self._arm_timer(question.deadline)

    def answer_without_model(self, question: Question, reason: Reason) -> None:
        """Let the heuristic answer at once."""
        self._rows += question.rows
        self._answer_by_heuristic([question], reason)

    def _is_too_late_for_model(self, question: Question) -> bool:
        """What waits already, and this, would end after the deadline."""
        live = self.live
        if live is None or self.is_pinned:
            return False
        begins_at = max(time.perf_counter(), self._runs_until)
        ends_at = begins_at + live.cost.seconds(self._queued_rows + question.rows)
        return ends_at > question.deadline - _MARGIN_SECONDS

    def _run_queue(self) -> None:
        self._is_scheduled = False
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
            batch = Batch.of(questions)
            self._runs_until = started_at + live.cost.seconds(len(batch.observations))
            if live.runs_inline:
                self._finish(batch, live, started_at, _run(live.policy, batch))
            else:
                self._run_in_thread(batch, live, started_at)

    def _take(self) -> list[Question]:
        self._overflow_rows = 0
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
        future = loop.run_in_executor(self._executor, _run, live.policy, batch)

        def finish(done: "asyncio.Future[_Ran]") -> None:
            self._running = []
            self._finish(batch, live, started_at, done.result())
            self._run_queue()

        future.add_done_callback(finish)

    def _finish(self, batch: Batch, live: Live, started_at: float, ran: "_Ran") -> None:
        """Answer those of a batch that the model has seen and nobody has answered meanwhile."""
        decided, ended_at = ran.said, time.perf_counter()
        self._runs_until = 0.0
        if isinstance(decided, str):
            _log.error("model_failed", policy=self._name, error=decided)
            live.breaker.record(False, ended_at)
            left = [question for question in batch.questions if not question.is_answered]
            self._answer_by_heuristic(left, "model_error")
            return
        live.cost.record(len(decided.actions), ran.seconds)
        self._measure(batch, started_at, ran.seconds, decided)
        chosen = self._fallback.contain(
            decided, live.answered_by, live.q_bound, batch.observations, batch.action_masks
        )
        live.breaker.record(chosen.share_of_model() > _LEAST_GOOD_SHARE, ended_at)
        answered = batch.answered_rows()
        if answered is None:
            self._deliver(batch, chosen)
            return
        # The heuristic answered these at their deadline; what the model would have said is kept.
        self._log(batch.part(is_answered=True), chosen.part(answered), True)
        if not answered.all():
            self._deliver(batch.part(is_answered=False), chosen.part(~answered))

    def _measure(self, batch: Batch, started_at: float, seconds: float, decided: Decided) -> None:
        self._inference_seconds.observe(seconds)
        self._batch_rows.observe(len(decided.actions))
        for question in batch.questions:
            self._queue_seconds.observe(started_at - question.arrived_at)
        self._q_health.observe(decided.q_values, decided.actions)

    def _answer_by_heuristic(self, questions: list[Question], reason: Reason) -> None:
        if questions:
            batch = Batch.of(questions)
            version = None if self.live is None else self.live.answered_by.version
            self._deliver(
                batch,
                self._fallback.answer(batch.observations, batch.action_masks, version, reason),
            )

    def _deliver(self, batch: Batch, chosen: Chosen) -> None:
        """Tell each question its rows, count the batch and log it: nothing of it waits any more."""
        rows = len(chosen.actions)
        self._rows -= rows
        self._in_flight.set(self._rows)
        for entry, count in zip(chosen.answered_by, chosen.counts(), strict=True):
            self._counter(entry).add(count)
        batch.tell(chosen)
        self._log(batch, chosen, False)

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
        self._overflow_rows = 0
        self._answer_by_heuristic([q for q in waiting if q.deadline <= limit], "deadline")
        self._queue = deque(question for question in self._queue if not question.is_answered)
        self._queued_rows = sum(question.rows for question in self._queue)
        left = [question.deadline for question in waiting if not question.is_answered]
        if left:
            self._arm_timer(min(left))


@dataclass(frozen=True, slots=True)
class _Ran:
    """One call of the model, timed where it ran: the event loop may be late to hear of it."""

    said: Decided | str
    """The model's answer, or why there is none."""
    seconds: float


def _run(policy: Policy, batch: Batch) -> _Ran:
    started_at = time.perf_counter()
    said = _ask(policy, batch)
    return _Ran(said, time.perf_counter() - started_at)


def _ask(policy: Policy, batch: Batch) -> Decided | str:
    try:
        decided = policy.decide(batch.observations, batch.action_masks)
        rows, count = len(batch.observations), policy.manifest.actions.count
        found = (decided.actions.shape, decided.q_values.shape)
        # A shape that follows the data passed every proof, and would answer one row with another's.
        if found != ((rows,), (rows, count)):
            return f"actions and q_values of shapes {found} for {rows} observations"
        return decided
    except Exception as error:  # noqa: BLE001 - onnxruntime raises many types, none public
        return repr(error)
