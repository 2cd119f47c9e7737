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

from service.errors import OverloadedError
from service.inference.fallback import Chosen, Fallback, Reason
from service.inference.live import Live, Ran
from service.inference.measures import Measures
from service.inference.parts import Part, merge, parts_of, run_parts
from service.inference.questions import Batch, Question
from service.inference.waiting import MARGIN_SECONDS, Waiting
from service.monitoring.drift import Drift

_AHEAD_SHARE: Final = 0.5
_AHEAD_SECONDS: Final = 0.002
"""So long before a batch ends, at most, and with so much of its time left, the next one is laid
before the model's thread: to hand it over only then would leave the model idle for a fifth of its
time where the event loop is busy."""

_LEAST_GOOD_SHARE: Final = 0.5
"""A batch of which the model answered less counts against it: one client's poison does not."""

_MOST_NAMED: Final = 10

Log = Callable[[Batch, Chosen, bool], None]
"""Takes a batch, what was chosen, and whether it came too late to be an answer."""
Explorer = Callable[[Batch, Chosen], None]
"""Replaces some of what was chosen by random actions."""
Watch = Callable[[Batch, Chosen], None]
"""Takes each batch that was answered, once its answers have been handed over."""
WatchCalls = Callable[[list[Part], list[Ran]], None]
"""Takes the calls of the models that a batch was answered with, or should have been."""

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
        measures: Measures,
        drift: Drift,
        explorer: Explorer | None,
        executor: Executor,
    ) -> None:
        self._name = name
        self._measures = measures
        self._fallback = fallback
        self._observation_dtype = observation_dtype
        self._limits = limits
        self._log = log
        self._drift = drift
        self._explorer = explorer
        self._executor = executor
        self._waiting = Waiting()
        self._running: deque[Batch] = deque()
        """In the model's thread: one that runs, and at times the one that follows it."""
        self._rows = 0
        """Not answered yet."""
        self._running_rows = 0
        self._is_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._runs_until = 0.0
        """When the model is expected to be free, on `time.perf_counter`."""
        self._ahead_seconds = 0.0
        self._freed_at = 0.0
        """When the last batch of the model's thread was heard of, on the same clock."""
        self.live: Live | None = None
        """The stable version."""
        self.withdrawn: Live | None = None
        """Answers nothing more, whatever questions that wait have been told."""
        self.is_split = False
        """Some questions are another version's than the stable one's."""
        self.watch: Watch | None = None
        self.watch_calls: WatchCalls | None = None
        self.absence: Reason = "no_model"
        """Why the heuristic answers while nothing is live."""
        self.is_pinned = False
        """An operator wants the heuristic."""

    @property
    def rows(self) -> int:
        """Accepted and not answered yet."""
        return self._rows

    @property
    def is_idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return self._rows == 0

    def submit(self, question: Question) -> None:
        """Take a question; its answer comes by its deadline.

        Raises:
            OverloadedError: So much is waiting that not even the heuristic is asked.
        """
        before, limit = self._rows, self._limits.queue_max_rows
        if before and before + question.rows > 2 * limit:
            self._measures.count_shed(question.rows)
            raise OverloadedError(f"{before} rows are waiting for policy {self._name}")
        self._rows += question.rows
        if before and not self._has_room(question):
            self._waiting.give_way(question)
        else:
            self._waiting.add(question)
            if self._may_run_in_thread(question):
                self._arm_timer(question.deadline)
        if not self._is_scheduled:
            self._is_scheduled = True
            # Runs once all sockets that are readable now have been read: they share the batch.
            asyncio.get_running_loop().call_soon(self._take_turn)

    def answer_without_model(self, question: Question, reason: Reason) -> None:
        """Let the heuristic answer at once."""
        self._rows += question.rows
        self._answer_by_heuristic([question], reason)

    def _may_run_in_thread(self, question: Question) -> bool:
        if self.live is None:
            return False
        if question.lives is None:
            return not self.live.runs_inline
        return not all(live.runs_inline for live in question.lives)

    def _has_room(self, question: Question) -> bool:
        rows = self._running_rows + self._waiting.rows + question.rows
        if rows > self._limits.queue_max_rows:
            return False
        live = self.live
        if live is None or self.is_pinned:
            return True
        return self._waiting.make_room(question, self._runs_until, live.cost)

    def _take_turn(self) -> None:
        """Everything that arrived in this turn of the event loop is here."""
        self._is_scheduled = False
        gave_way = self._waiting.take_given_way()
        self._run_waiting()
        self._answer_by_heuristic(gave_way, "overload")

    def _run_waiting(self) -> None:
        """Give the model what waits, unless it is at work for longer than a moment."""
        while self._waiting and self._is_free():
            live, now = self.live, time.perf_counter()
            if live is None or self.is_pinned:
                questions = self._waiting.take(self._limits.batch_max_rows)
                self._answer_by_heuristic(questions, "pinned" if self.is_pinned else self.absence)
                continue
            late = self._waiting.take_late(now)
            if late:
                self._answer_by_heuristic(late, "deadline")
                continue
            most = self._limits.batch_max_rows
            if not live.runs_inline:
                begins_at = max(now, self._runs_until)
                most = min(most, self._waiting.rows_in_time(begins_at, live.cost))
            questions = self._waiting.take(most)
            is_allowed = live.breaker.allows(now)
            self._measures.show_breaker(live.breaker.state)
            if not is_allowed:
                self._answer_by_heuristic(questions, "breaker")
                continue
            batch = Batch.of(questions, self._observation_dtype)
            parts = [Part(live, batch, None)]
            if self.is_split:
                parts = parts_of(batch, live, self.withdrawn)
            if all(part.live.runs_inline for part in parts):
                ran = run_parts(parts)
                for part, each in zip(parts, ran, strict=True):
                    part.live.cost.record(len(part.batch.observations), each.seconds)
                self._finish(batch, self._judge_all(parts, ran))
            else:
                self._run_in_thread(batch, parts)

    def _is_free(self) -> bool:
        """The model is idle, or will be before its thread could be given more to do."""
        if not self._running:
            return True
        left = self._runs_until - time.perf_counter()
        # One that takes longer than was expected may take longer still: what waits can still be
        # answered by the heuristic, and more may join it.
        return len(self._running) == 1 and 0.0 < left < self._ahead_seconds

    def _run_in_thread(self, batch: Batch, parts: list[Part]) -> None:
        now, rows = time.perf_counter(), len(batch.observations)
        seconds = sum(part.live.cost.seconds(len(part.batch.observations)) for part in parts)
        self._runs_until = max(now, self._runs_until if self._running else 0.0) + seconds
        self._ahead_seconds = min(_AHEAD_SHARE * seconds, _AHEAD_SECONDS)
        self._running.append(batch)
        self._running_rows += rows
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._executor, run_parts, parts)

        def finish(done: "asyncio.Future[list[Ran]]") -> None:
            self._running.popleft()
            self._running_rows -= rows
            ran, heard_at = done.result(), time.perf_counter()
            # With the time to hand it over and to hear of it: who waits pays for these too.
            self._learn_costs(parts, ran, heard_at - max(now, self._freed_at))
            self._freed_at = heard_at
            if not self._running:
                self._runs_until = 0.0
            chosen = self._judge_all(parts, ran)
            # The model first: it is what there is least of, and goes on while answers are written.
            self._run_waiting()
            self._finish(batch, chosen)

        future.add_done_callback(finish)

    def _learn_costs(self, parts: list[Part], ran: list[Ran], seconds: float) -> None:
        """What was spent beside the models' own time is the first part's."""
        beside = seconds - sum(each.seconds for each in ran)
        for part, each in zip(parts, ran, strict=True):
            part.live.cost.record(len(part.batch.observations), each.seconds + beside)
            beside = 0.0

    def _judge_all(self, parts: list[Part], ran: list[Ran]) -> Chosen | None:
        """What of the versions' answers may be given; None where none has one."""
        if self.watch_calls is not None:
            self.watch_calls(parts, ran)
        chosen = [
            self._judge(part.batch, part.live, each) for part, each in zip(parts, ran, strict=True)
        ]
        if len(parts) == 1:
            return chosen[0]
        return merge(
            parts,
            [
                each or self._heuristic_for(part, "model_error")
                for part, each in zip(parts, chosen, strict=True)
            ],
        )

    def _heuristic_for(self, part: Part, reason: Reason) -> Chosen:
        who = part.live.answered_by
        return self._fallback.answer(
            part.batch.observations, part.batch.action_masks, who.version, reason, who.variant
        )

    def _judge(self, batch: Batch, live: Live, ran: Ran) -> Chosen | None:
        """What of the model's answer may be given; None where there is none."""
        decided, ended_at = ran.said, time.perf_counter()
        if isinstance(decided, str):
            names = [question.decision_id for question in batch.questions[:_MOST_NAMED]]
            _log.error("model_failed", policy=self._name, error=decided, decisions=names)
            live.breaker.record(False, ended_at)
            return None
        self._measures.measure_call(batch, ran, decided, live.answered_by.variant)
        if live is self.live:
            self._drift.watch(live.policy, batch.observations, decided, ended_at)
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
        if self._explorer is not None:
            self._explorer(batch, chosen)
        answered = batch.answered_rows()
        if answered is None:
            self._deliver(batch, chosen)
            return
        # The heuristic answered these at their deadline; what the model would have said is kept.
        self._log(batch.part(answered, is_answered=True), chosen.part(answered), True)
        if not answered.all():
            self._deliver(batch.part(~answered, is_answered=False), chosen.part(~answered))

    def _answer_by_heuristic(self, questions: list[Question], reason: Reason) -> None:
        if questions:
            batch = Batch.of(questions, self._observation_dtype)
            if self.is_split and self.live is not None:
                parts = parts_of(batch, self.live, self.withdrawn)
                given = [self._heuristic_for(part, reason) for part in parts]
                self._deliver(batch, merge(parts, given))
                return
            version = None if self.live is None else self.live.answered_by.version
            self._deliver(
                batch,
                self._fallback.answer(batch.observations, batch.action_masks, version, reason),
            )

    def _deliver(self, batch: Batch, chosen: Chosen) -> None:
        """Tell each question its rows, count the batch and log it: nothing of it waits any more."""
        rows = len(chosen.actions)
        self._rows -= rows
        self._measures.count_decisions(chosen)
        batch.tell(chosen)
        self._measures.measure_answers(batch.questions)
        self._log(batch, chosen, False)
        if self.watch is not None:
            self.watch(batch, chosen)

    def _arm_timer(self, deadline: float) -> None:
        at = deadline - MARGIN_SECONDS
        if at >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        delay = max(0.0, at - time.perf_counter())
        self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        now = time.perf_counter()
        running = [q for batch in self._running for q in batch.questions if not q.is_answered]
        late = [question for question in running if question.deadline <= now + MARGIN_SECONDS]
        self._answer_by_heuristic([*late, *self._waiting.take_late(now)], "deadline")
        left = [question.deadline for question in (*running, *self._waiting)]
        left = [deadline for deadline in left if deadline > now + MARGIN_SECONDS]
        if left:
            self._arm_timer(min(left))
