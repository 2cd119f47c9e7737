"""Looks on while a policy answers: guardrails on the canary's rows, and the shadow's opinion."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import structlog

from service.inference.fallback import Chosen, find_faults
from service.inference.live import Live, Ran, run
from service.inference.parts import Part
from service.inference.questions import Batch
from service.metrics import Metrics
from service.rollout.guardrails import Call, Fired, Guardrails, Rows

_WAYS: Final = {"non_finite": "nonfinite", "q_bound": "q_bound", "model_error": "error"}
"""A breaker that is open is stable's, and who was late is asked of the calls themselves."""
_SHADOW_TIME_SHARE: Final = 0.05
"""Of the time, that a shadow's model may run: it waits for so long that live answers do not."""

_log = structlog.get_logger(__name__)


def rows_of(chosen: Chosen) -> dict[str, Rows]:
    """Variant to its rows of a batch, and how many failed in which way."""
    found: dict[str, dict[str, int]] = {}
    for who, count in zip(chosen.answered_by, chosen.counts(), strict=True):
        rows = found.setdefault(who.variant, {"rows": 0})
        rows["rows"] += count
        if who.reason in _WAYS:
            for way in (_WAYS[who.reason], "fallback"):
                rows[way] = rows.get(way, 0) + count
    return {variant: Rows(**rows) for variant, rows in found.items()}


def calls_of(parts: Sequence[Part], ran: Sequence[Ran]) -> list[Call]:
    """Whose calls a batch made, and which took longer than somebody who waits has time.

    A call's own time alone: who waited behind a slow canary was late, and not by stable's doing.
    """
    budget = min(each.deadline - each.arrived_at for each in parts[0].batch.questions)
    return [
        Call(part.live.answered_by.variant, each.seconds > budget)
        for part, each in zip(parts, ran, strict=True)
    ]


class GuardrailWatch:
    """Feeds the guardrails of one trial, and calls once where one fires."""

    def __init__(self, rollout_id: str, on_fired: Callable[[str, Fired], None]) -> None:
        self.guardrails = Guardrails(rollout_id)
        self._on_fired = on_fired
        self._has_fired = False

    def __call__(self, batch: Batch, chosen: Chosen) -> None:
        """Take a batch that was answered."""
        found = rows_of(chosen)
        if "stable" in found:
            self.guardrails.observe_stable(found["stable"])
        if "canary" not in found or self._has_fired:
            return
        self._tell(self.guardrails.observe_canary(found["canary"]))

    def watch_calls(self, parts: Sequence[Part], ran: Sequence[Ran]) -> None:
        """Take the calls of a batch, before it is answered: it must be, whatever slips here."""
        try:
            if not self._has_fired:
                self._tell(self.guardrails.observe_calls(calls_of(parts, ran), time.monotonic()))
        except Exception:  # noqa: BLE001
            _log.exception("watcher_failed")

    def _tell(self, fired: Fired | None) -> None:
        if fired is not None:
            self._has_fired = True
            self._on_fired(self.guardrails.rollout_id, fired)


class Shadow:
    """Asks a version about a share of what is answered, and compares. It never answers.

    It runs in a thread of its own, one batch at a time, for a small share of the time: what comes
    meanwhile it does not see.
    """

    def __init__(
        self, policy: str, live: Live, share: float, metrics: Metrics, rng: np.random.Generator
    ) -> None:
        self.live = live
        self.share = share
        self._policy = policy
        self._rng = rng
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"shadow-{policy}")
        self._is_busy = False
        self._free_at = 0.0
        self._rows = metrics.counter("dqn_shadow_rows_total", policy)
        self._differing = metrics.counter("dqn_shadow_disagreements_total", policy)
        self._faulty = metrics.counter("dqn_shadow_fallbacks_total", policy)
        self._q_gap = metrics.histogram("dqn_shadow_q_gap", policy)
        self._seconds = metrics.histogram("dqn_shadow_seconds", policy)

    def __call__(self, batch: Batch, chosen: Chosen) -> None:
        """Take a batch that was answered; most often to let it go."""
        if self._is_busy or time.perf_counter() < self._free_at:
            return
        rows = np.flatnonzero(self._rng.random(len(chosen.actions)) < self.share)
        if not len(rows):
            return
        self._is_busy = True
        masks = None if batch.action_masks is None else batch.action_masks[rows]
        part = Batch([], batch.observations[rows], masks)
        q_values = None if chosen.q_values is None else chosen.q_values[rows]
        actions = chosen.actions[rows]
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(
            self._executor, run, self.live.policy, part.observations, part.action_masks
        )

        def finish(done: "asyncio.Future[Ran]") -> None:
            if not done.cancelled():
                self._compare(done.result(), actions, q_values)

        future.add_done_callback(finish)

    def close(self) -> None:
        """Let the thread go."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _compare(
        self,
        ran: Ran,
        actions: "np.ndarray[tuple[int], np.dtype[np.int64]]",
        q_values: "np.ndarray[tuple[int, int], np.dtype[np.float32]] | None",
    ) -> None:
        self._is_busy = False
        self._free_at = time.perf_counter() + ran.seconds / _SHADOW_TIME_SHARE
        self._rows.add(len(actions))
        self._seconds.observe(ran.seconds)
        if isinstance(ran.said, str):
            self._faulty.add(len(actions))
            return
        faulty = sum(map(len, find_faults(ran.said.q_values, self.live.q_bound)))
        self._faulty.add(faulty)
        self._differing.add(int((ran.said.actions != actions).sum()))
        if q_values is not None:
            gaps = np.abs(ran.said.q_values.max(axis=1) - q_values.max(axis=1))
            self._q_gap.observe_all(gaps[np.isfinite(gaps)])


class Watchers:
    """Several that look on, as one."""

    def __init__(self, *watchers: Callable[[Batch, Chosen], None]) -> None:
        self._watchers = watchers

    def __call__(self, batch: Batch, chosen: Chosen) -> None:
        """Show a batch to each; one that slips must not fail a request that is answered."""
        for watcher in self._watchers:
            try:
                watcher(batch, chosen)
            except Exception:  # noqa: BLE001
                _log.exception("watcher_failed")
