"""One worker: its settings, its policies, its log. Faces ask it; nothing is global."""

import asyncio
import contextlib
import time
from importlib.metadata import version as release_of
from itertools import count
from random import Random
from typing import Final, Literal, NamedTuple

import structlog

from contract.declaration import PolicyDeclaration
from service.errors import InvalidRequestError, NotReadyError, UnknownPolicyError
from service.experience.shipper import Shipper
from service.experience.spool import Spool, SpoolLimits
from service.inference.batcher import BatcherLimits
from service.inference.episodes import OpenEpisodes
from service.inference.served import ServedPolicy
from service.inference.traced import Traced
from service.inference.tracer import Tracer
from service.keys import Keys
from service.messages import Request, Respond, error_reply
from service.metrics import Counter, Metrics
from service.monitoring.drift import DriftRules
from service.monitoring.live_profiles import LiveArming
from service.rollout.ledger import open_ledger
from service.rollout.loader import Loader
from service.rollout.rollout import Rollout
from service.settings import ServiceSettings
from service.siblings import Handle, Siblings

State = Literal["starting", "ready", "draining", "stopping"]

_START_SECONDS: Final = 30.0
"""After so long the heuristic stands, whatever still loads."""

_log = structlog.get_logger(__name__)


class Place(NamedTuple):
    """Which of a box's workers this one is."""

    slot: int
    accepts_at_once: bool
    """Takes connections while it starts, to tell probes so; a worker beside others lets those
    answer until it can."""


ALONE: Final = Place(0, accepts_at_once=True)


class Server:
    """Owns everything of one worker. Made before the event loop runs, started on it."""

    def __init__(self, settings: ServiceSettings, metrics: Metrics, place: Place = ALONE) -> None:
        self.settings = settings
        self.metrics = metrics
        self.keys = Keys(settings.keys_file)
        self.policies: dict[str, ServedPolicy] = {}
        self.state: State = "starting"
        self._accepts_at_once = place.accepts_at_once
        self._is_ready = asyncio.Event()
        self.answer_sibling: Handle = _refuse_sibling
        """What answers the steps that siblings hand over; set by the application."""
        settings.policies.mkdir(parents=True, exist_ok=True)
        limits = SpoolLimits(
            settings.spool_commit_seconds, settings.spool_max_bytes, settings.disk_free_share
        )
        self.spool = Spool(settings.spool, limits, metrics)
        self._shipper = (
            Shipper(self.spool, settings.redis_url.get_secret_value(), metrics)
            if settings.redis_url is not None
            else None
        )
        ledger, self.replicas = open_ledger(settings, place.slot)
        self.rollout = Rollout(ledger)
        self.loader = Loader(
            settings.policies,
            self.rollout,
            self.policies,
            self._declare,
            settings.allowed_heuristics,
            settings.execution_providers,
            f"worker {self.spool.producer}",
            metrics,
            self.replicas,
        )
        self.live_arming = LiveArming(settings.policies)
        self.siblings = Siblings(settings.data / "run", place.slot, settings.workers)
        self.episodes = OpenEpisodes(
            settings.episodes_max_bytes,
            settings.episode_silent_seconds,
            time.monotonic,
            metrics.counter("dqn_episodes_evicted_total"),
        )
        self._loading: asyncio.Task[None] | None = None
        self._requests: dict[tuple[str, int], Counter] = {}
        self.outcomes = {
            result: metrics.counter("dqn_outcomes_total", result)
            for result in ("accepted", "invalid")
        }
        self._decision_ids = count()
        # Decision ids of two lives of one producer must differ.
        self._decision_prefix = f"{self.spool.producer}-{time.time_ns() // 1_000_000:x}-"
        release = release_of("dqn-serving")
        metrics.counter("dqn_build_info", release).set(1)
        self.tracer = _tracer_of(settings, release)
        self._keys_stale = metrics.counter("dqn_keys_stale")
        metrics.before_scrape.append(self._show_keys)

    async def start(self) -> None:
        """Load what is wanted; ready once it stands, or once it has had its time."""
        loop = asyncio.get_running_loop()
        self.spool.start(loop)
        if self._shipper is not None:
            self._shipper.start()
        self._loading = loop.create_task(self._load())
        if not self._accepts_at_once:
            await self._is_ready.wait()
            await self.siblings.wait_for_first(_START_SECONDS)

    async def stop(self) -> None:
        """Finish what is in flight, flush the log, let everything go."""
        self.state = "stopping"
        await self.siblings.stop()
        if self._loading is not None:
            self._loading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loading
        await self.loader.withdraw()
        until = time.monotonic() + self.settings.drain_seconds
        while time.monotonic() < until and not self._is_idle():
            await asyncio.sleep(0.01)
        for served in self.policies.values():
            served.close()
        await asyncio.to_thread(self.spool.close)
        if self._shipper is not None:
            await asyncio.to_thread(self._shipper.close)
        if self.tracer is not None:
            await asyncio.to_thread(self.tracer.close)
        # A stopped worker's page is still read by the others.
        self.metrics.flush()

    def policy(self, name: str | None) -> ServedPolicy:
        """The policy a request names, or the one it may leave unnamed.

        Raises:
            UnknownPolicyError: None of that name is declared.
            InvalidRequestError: None is named and there is no default.
        """
        if name is None:
            name = self.settings.default_policy
        if name is None:
            if len(self.policies) == 1:
                return next(iter(self.policies.values()))
            raise InvalidRequestError(
                f"policy: expected one of {sorted(self.policies)}, found none and there is no "
                "default"
            )
        served = self.policies.get(name)
        if served is None:
            raise UnknownPolicyError(
                f"policy: expected one of {sorted(self.policies)}, found {name[:64]!r}"
            )
        return served

    def refuse_unless_serving(self) -> None:
        """Raise NotReadyError while starting or stopping.

        While draining it still answers: a balancer takes a moment to notice.
        """
        if self.state not in ("ready", "draining"):
            raise NotReadyError(f"the server is {self.state}")

    def new_decision_id(self) -> str:
        """A name no other decision has."""
        return f"{self._decision_prefix}{next(self._decision_ids):x}"

    def follow(self, request: Request) -> Traced | None:
        """What is kept of a request that somebody follows; None, most often, where nobody does."""
        if self.tracer is None:
            return None
        return self.tracer.begin(request.header(b"traceparent"))

    def deadline_seconds(self, asked_ms: float | None) -> float:
        """The time a request has.

        Raises:
            InvalidRequestError: It asks for more than the settings allow.
        """
        if asked_ms is None:
            return self.settings.deadline_ms / 1000
        if asked_ms > self.settings.deadline_max_ms:
            raise InvalidRequestError(
                f"deadline_ms: expected at most {self.settings.deadline_max_ms:g}, "
                f"found {asked_ms:g}"
            )
        return asked_ms / 1000

    def count_request(self, route: str, status: int) -> None:
        """Count one answered request."""
        counter = self._requests.get((route, status))
        if counter is None:
            counter = self.metrics.counter("dqn_http_requests_total", route, str(status))
            self._requests[route, status] = counter
        counter.add()

    def degradations(self) -> list[str]:
        """Why answers may not be what operators want, in sentences."""
        found = [f"{name}: {fault}" for name, fault in sorted(self.loader.faults.items())]
        for served in self.policies.values():
            if served.batcher.is_pinned:
                found.append(f"{served.name}: pinned to the heuristic by an operator")
            elif served.fault is not None:
                found.append(f"{served.name}: {served.fault}")
            position = self.rollout.state(served.name).not_understood
            if position is not None:
                found.append(
                    f"{served.name}: entry {position} of the ledger is not understood here; "
                    "a later release may have written it"
                )
        if not self.policies:
            found.append(f"no policy is declared in {self.settings.policies}")
        if self.spool.refusal is not None:
            found.append(f"the transition log accepts nothing: {self.spool.refusal}")
        if self.keys.fault is not None:
            found.append(f"keys: {self.keys.fault}")
        return found

    async def _load(self) -> None:
        first_look = asyncio.ensure_future(self._look_safely())
        try:
            # Waited for and not cancelled: a load that takes longer goes on behind the heuristic.
            await asyncio.wait({first_look}, timeout=_START_SECONDS)
            if self.state == "starting":
                self.state = "ready"
            await self.siblings.start(self.answer_sibling)
            self._is_ready.set()
            _log.info("ready", degraded=self.degradations())
            await first_look
        finally:
            first_look.cancel()
        while True:
            await asyncio.sleep(self.loader.pause_seconds(self.settings.reload_seconds))
            self.episodes.drop_silent()
            await self._look_safely()

    async def _look_safely(self) -> None:
        try:
            await self.loader.look()
            await self.live_arming.look(list(self.policies.values()))
        except Exception:  # noqa: BLE001
            # One look that fails must not be the last: the next may find the cause mended.
            _log.exception("look_failed")

    def _declare(self, name: str, declaration: PolicyDeclaration) -> ServedPolicy:
        limits = BatcherLimits(self.settings.batch_max_rows, self.settings.queue_max_rows)
        rules = DriftRules(
            self.settings.drift_window_rows,
            self.settings.drift_window_seconds,
            self.settings.workers,
        )
        return ServedPolicy(name, declaration, limits, self.spool, self.metrics, rules, self.tracer)

    def _is_idle(self) -> bool:
        return all(served.batcher.is_idle for served in self.policies.values())

    def _show_keys(self) -> None:
        self._keys_stale.set(float(self.keys.fault is not None))


def _tracer_of(settings: ServiceSettings, release: str) -> Tracer | None:
    if settings.trace_endpoint is None:
        return None
    # OpenTelemetry is an extra: it is neither needed nor loaded where nothing is traced.
    from service.monitoring.tracing import Tracing

    return Tracing(settings.trace_endpoint, settings.trace_share, release, Random())


def _refuse_sibling(request: Request, respond: Respond) -> None:
    respond(error_reply(NotReadyError("no application is built around this server")))
