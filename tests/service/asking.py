"""One policy with a batcher, a spool and a loop, and no HTTP around it."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from contract.bundle import read_bundle
from contract.declaration import PolicyDeclaration
from contract.records import AnsweredBy, DecisionBatch, decode_record
from contract.segments import read_records
from service.errors import ServiceError
from service.experience.spool import Spool, SpoolLimits
from service.inference.batcher import BatcherLimits
from service.inference.cost import CostModel
from service.inference.live import Live
from service.inference.proof import prove
from service.inference.questions import Answer, OnFallback, Question
from service.inference.served import ServedPolicy
from service.metrics import Metrics
from service.monitoring.drift import DriftRules
from service.rollout.loader import make_live
from tests import builders

LIMITS = SpoolLimits(commit_seconds=0.01, max_bytes=2**30, disk_free_share=0.0)


class Asking:
    """Asks a served policy. Made on a running event loop."""

    def __init__(
        self,
        data: Path,
        declared: PolicyDeclaration | None = None,
        *,
        batch_max_rows: int = 256,
        queue_max_rows: int = 4096,
        drift_rules: DriftRules | None = None,
    ) -> None:
        self.metrics = Metrics()
        self.spool = Spool(data / "spool", LIMITS, self.metrics)
        self.spool.start(asyncio.get_running_loop())
        limits = BatcherLimits(batch_max_rows, queue_max_rows)
        declared = declared or builders.declaration()
        self.served = ServedPolicy(
            builders.POLICY, declared, limits, self.spool, self.metrics, drift_rules
        )
        self._names = 0

    def serve(self, directory: Path, *, runs_inline: bool = True) -> None:
        """Let a bundle answer, on the event loop or in its thread.

        It is expected to take no time, so that only what it does take decides.
        """
        bundle = read_bundle(directory)
        live = make_live(bundle, prove(bundle), self.served.declaration)
        self.served.go_live(replace(live, runs_inline=runs_inline, cost=CostModel(0.0, 0.0)))

    @property
    def live(self) -> Live:
        assert self.served.batcher.live is not None
        return self.served.batcher.live

    def ask(
        self,
        observations: npt.ArrayLike,
        *,
        masks: npt.ArrayLike | None = None,
        deadline_seconds: float = 60.0,
        on_fallback: OnFallback = "heuristic",
    ) -> "asyncio.Future[Answer | ServiceError]":
        """Submit a question; answering it twice fails the test."""
        told: asyncio.Future[Answer | ServiceError] = asyncio.get_running_loop().create_future()
        self._names += 1
        now = time.perf_counter()
        question = Question(
            decision_id=f"decision-{self._names}",
            observations=np.asarray(observations, dtype=np.float32),
            action_masks=None if masks is None else np.asarray(masks, dtype=np.bool_),
            episode_ids=None,
            steps=None,
            arrived_at=now,
            deadline=now + deadline_seconds,
            on_fallback=on_fallback,
            told=told.set_result,
        )
        self.served.batcher.submit(question)
        return told

    async def answer(self, observations: npt.ArrayLike, **options: Any) -> Answer:
        """Ask, and wait for an answer that is not an error."""
        answer = await self.ask(observations, **options)
        assert isinstance(answer, Answer), answer
        return answer

    async def logged(self) -> list[DecisionBatch]:
        """Close, and read what the log holds."""
        self.served.close()
        await asyncio.to_thread(self.spool.close)
        records = [decode_record(content) for _, content in read_records(self.spool.folder)]
        return [record for record in records if isinstance(record, DecisionBatch)]


def who(answer: Answer) -> list[AnsweredBy]:
    """Who answered each row."""
    index = answer.index or [0] * len(answer.actions)
    return [answer.answered_by[entry] for entry in index]
