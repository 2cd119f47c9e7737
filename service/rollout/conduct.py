"""Applies a rollout to a policy's traffic, and takes a canary off where a guardrail fires."""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

import numpy as np
import structlog

from contract.assignment import Split
from contract.ledger import Entry, LedgerError
from contract.rollout import PolicyState, Rollout
from service.errors import ServiceError
from service.inference.live import Live
from service.inference.served import ServedPolicy
from service.metrics import Metrics
from service.rollout.guardrails import Fired
from service.rollout.rollout import Rollout as Ledger
from service.rollout.traffic import FirstSeen, Traffic, is_split
from service.rollout.watch import GuardrailWatch, Shadow, Watchers

_log = structlog.get_logger(__name__)

CONDUCT_SECONDS: Final = 0.25
"""How often the ledger is looked at while a version is on trial: what one worker finds of it, all
know within a second."""

_Key = tuple[tuple[Split, ...], int, tuple[int, ...]]


class Conduct:
    """Owns what one policy's rollout needs in this worker: split, guardrails, shadow."""

    def __init__(self, served: ServedPolicy, ledger: Ledger, who: str, metrics: Metrics) -> None:
        self._served = served
        self._ledger = ledger
        self._who = who
        self._metrics = metrics
        self._first_seen = FirstSeen()
        self._traffic: Traffic | None = None
        self._key: _Key | None = None
        self._state = PolicyState()
        self._warm: Mapping[int, Live] = {}
        self._guardrails: GuardrailWatch | None = None
        self._shadow: Shadow | None = None
        self._fired: set[str] = set()
        self._unsaid: list[Entry] = []
        self._saying: asyncio.Task[None] | None = None
        self._lease = metrics.counter("dqn_judge_lease_seconds", served.name)
        self._share = metrics.counter("dqn_canary_share", served.name)
        self._num_fired = metrics.counter("dqn_guardrails_fired_total", served.name)
        for name in ("rows", "disagreements", "fallbacks"):
            metrics.counter(f"dqn_shadow_{name}_total", served.name)
        metrics.histogram("dqn_shadow_q_gap", served.name)
        metrics.histogram("dqn_shadow_seconds", served.name)

    def apply(self, state: PolicyState, warm: Mapping[int, Live]) -> None:
        """Bring the traffic to what the ledger says; cheap where nothing has changed."""
        self._state, self._warm = state, dict(warm)
        lease = state.lease
        self._lease.set(0.0 if lease is None else max(lease.until - time.time(), 0.0))
        self._split()
        self._look_on()
        self._say()

    def close(self) -> None:
        """Let the shadow's thread go."""
        if self._shadow is not None:
            self._shadow.close()

    def _split(self) -> None:
        now, stable = time.time(), self._served.batcher.live
        splits = self._splits(now)
        trial = self._trial()
        share = splits[-1].canary_share if splits and trial is not None else 0.0
        self._share.set(share)
        if stable is None or not is_split(splits, now):
            self._served.set_traffic(None)
            self._traffic = self._key = None
            return
        key = (splits, id(stable), tuple(sorted(self._warm)))
        if key != self._key or self._traffic is None:
            self._key = key
            self._traffic = Traffic(splits, stable, self._warm, self._first_seen)
        self._served.set_traffic(self._traffic.choose)
        if trial is not None and trial.version in self._warm:
            self._served.show_canary(self._traffic.seat(trial.version, "canary"))
        else:
            self._served.show_canary(None)

    def _splits(self, now: float) -> tuple[Split, ...]:
        """As the ledger says; a canary that a guardrail here has taken off has no part in it."""
        splits = self._state.traffic(now)
        if not self._fired:
            return splits
        return tuple(
            split._replace(canary=None, canary_share=0.0) if split.salt in self._fired else split
            for split in splits
        )

    def _trial(self) -> Rollout | None:
        trial = self._state.open_rollout
        return None if trial is None or trial.rollout_id in self._fired else trial

    def _look_on(self) -> None:
        trial = self._trial()
        if trial is None:
            self._guardrails = None
        elif self._guardrails is None or self._guardrails.guardrails.rollout_id != trial.rollout_id:
            self._guardrails = GuardrailWatch(trial.rollout_id, self._on_fired)
        self._set_shadow()
        found = [each for each in (self._guardrails, self._shadow) if each is not None]
        self._served.batcher.watch = Watchers(*found) if found else None
        guardrails = self._guardrails
        self._served.batcher.watch_calls = None if guardrails is None else guardrails.watch_calls

    def _set_shadow(self) -> None:
        version, share = self._state.shadow, self._state.shadow_share
        live = None if version is None else self._warm.get(version)
        shadow = self._shadow
        if shadow is not None and (shadow.live is not live or shadow.share != share):
            shadow.close()
            self._shadow = shadow = None
        if live is not None and shadow is None:
            rng = np.random.default_rng()
            self._shadow = Shadow(self._served.name, live, share, self._metrics, rng)

    def _on_fired(self, rollout_id: str, fired: Fired) -> None:
        """At once and by itself: neither ledger nor judge is asked."""
        trial = self._state.open_rollout
        if trial is None or trial.rollout_id != rollout_id:
            return
        if self._traffic is not None:
            self._served.batcher.withdrawn = self._traffic.seat(trial.version, "canary")
        self._fired.add(rollout_id)
        self._num_fired.add()
        _log.error("guardrail_fired", policy=self._served.name, why=fired.sentence)
        self._unsaid.append(
            Entry(
                action="guardrail",
                policy=self._served.name,
                version=trial.version,
                who=self._who,
                why=fired.sentence,
                details={"rollout_id": rollout_id, "guardrail": fired.guardrail},
            )
        )
        self._split()
        self._say()

    def _say(self) -> None:
        """Tell the other workers through the ledger, again and again until it is written."""
        if self._unsaid and (self._saying is None or self._saying.done()):
            self._saying = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        while self._unsaid:
            try:
                await self._ledger.record(self._unsaid[0])
            except (OSError, LedgerError, ServiceError) as error:
                _log.error("guardrail_not_told", policy=self._served.name, error=str(error))
                return
            self._unsaid.pop(0)
