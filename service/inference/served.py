"""One declared policy as this worker serves it."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np

from contract.declaration import PolicyDeclaration
from contract.manifest import Manifest, Profile
from service.experience.decisions import DecisionLog
from service.experience.spool import Spool
from service.inference.batcher import Batcher, BatcherLimits, Explorer
from service.inference.exploration import explore
from service.inference.fallback import REASONS, Chosen, Fallback, Reason
from service.inference.live import Live, Placed
from service.inference.measures import Measures
from service.inference.observations import ObservationDecoder
from service.inference.questions import Batch, Question
from service.inference.tracer import Tracer
from service.metrics import Metrics
from service.monitoring.drift import Drift, DriftRules
from service.monitoring.drift_gauges import DriftGauges
from service.monitoring.fault_log import FaultLog
from service.monitoring.q_health import QHealth

Choose = Callable[
    [Sequence[str | None], Sequence[int | None] | None, Sequence[float] | None], list[Placed]
]
"""(episode ids, steps, when the episodes began) to whose each row is."""

_INLINE_SECONDS: Final = 0.001
"""A model that takes longer over 64 rows leaves the event loop to its own thread."""


class ServedPolicy:
    """Owns a policy's batcher and what is known of the version that serves."""

    def __init__(
        self,
        name: str,
        declaration: PolicyDeclaration,
        limits: BatcherLimits,
        spool: Spool,
        metrics: Metrics,
        drift_rules: DriftRules | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.name = name
        self.declaration = declaration
        self.schema_hash = declaration.schema_hash
        self.fault: str | None = "no version has been promoted"
        """Why the heuristic answers, or why the wanted version is not the one that serves."""
        self.live_since: float | None = None
        self._metrics = metrics
        count = declaration.actions.count
        self._q_health = {
            variant: QHealth(metrics, name, variant, count) for variant in ("stable", "canary")
        }
        self._canary: Live | None = None
        self._live_profiles: dict[int, Profile] = {}
        """Of versions whose bundles have none."""
        rules, gauges = drift_rules or DriftRules(), DriftGauges(metrics, name)
        self._drift = Drift(name, rules, np.random.default_rng(), gauges.show)
        self.choose: Choose | None = None
        """Which version answers which row, while episodes are split over several."""
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"model-{name}")

        decisions, faults = DecisionLog(name, declaration, spool), FaultLog(name)

        def log(batch: Batch, chosen: Chosen, is_late: bool) -> None:
            decisions.add(time.time(), batch, chosen, is_late=is_late)
            if is_late:
                return
            faults.tell(batch, chosen)
            if tracer is not None:
                tracer.answered(name, batch, chosen)

        self.decoder = ObservationDecoder(declaration.observation)
        self.frame_decoder = ObservationDecoder(declaration.observation.frame)
        """Of what `/v1/episodes/…/steps` takes: one frame of a stack."""
        self.batcher = Batcher(
            name,
            Fallback(declaration, np.random.default_rng()),
            declaration.observation.numpy_dtype,
            limits,
            log,
            Measures(name, metrics, self._q_health, tracer),
            self._drift,
            _explorer(declaration, np.random.default_rng()),
            self._executor,
        )
        for variant in ("stable", "canary"):
            for reason in REASONS:
                metrics.counter("dqn_decisions_total", name, variant, "heuristic", reason)
            metrics.counter("dqn_decisions_total", name, variant, "model", "none")
        for outcome in ("loaded", "failed"):
            metrics.counter("dqn_policy_loads_total", name, outcome)
        self._in_flight = metrics.counter("dqn_in_flight_rows", name)
        metrics.before_scrape.append(self._show_in_flight)
        self._show_degraded()

    @property
    def live_version(self) -> int | None:
        """The version that serves."""
        return _version_of(self.batcher.live)

    @property
    def is_degraded(self) -> bool:
        """The heuristic answers, or another version than the wanted one does."""
        return self.fault is not None or self.batcher.is_pinned

    def go_live(self, live: Live) -> None:
        """Swap the pointer: the next batch is this version's."""
        if self.live_version is not None:
            self._show_version(self.live_version, 0)
        live.breaker.reset()
        self.batcher.live = live
        self.live_since = time.time()
        self._judge_stable(live)
        self._show_version(live.policy.manifest.version, 1)
        self.set_fault(None)

    def submit(self, question: Question) -> None:
        """Take a question; its answer comes by its deadline.

        Raises:
            OverloadedError: So much is waiting that not even the heuristic is asked.
        """
        self._assign(question)
        self.batcher.submit(question)

    def answer_without_model(self, question: Question, reason: Reason) -> None:
        """Let the heuristic answer at once."""
        self._assign(question)
        self.batcher.answer_without_model(question, reason)

    def set_traffic(self, choose: Choose | None) -> None:
        """Split episodes over versions from now on; None for all to stable."""
        self.choose = choose
        # What waits was told before: it is looked at until nothing of it can be left.
        was_split = self.batcher.is_split and not self.batcher.is_idle
        self.batcher.is_split = choose is not None or was_split

    def show_canary(self, live: Live | None) -> None:
        """Say which version is on trial."""
        version, shown = _version_of(live), _version_of(self._canary)
        if version == shown:
            return
        for each, value in ((shown, 0.0), (version, 1.0)):
            if each is not None:
                labels = (self.name, "canary", str(each))
                self._metrics.counter("dqn_policy_info", *labels).set(value)
        self._canary = live
        if live is not None:
            self._judge_canary(live)

    @property
    def unprofiled(self) -> list[int]:
        """Versions that serve and whose bundles say nothing of how they should look."""
        serving = (self.batcher.live, self._canary)
        manifests = [live.policy.manifest for live in serving if live is not None]
        return [each.version for each in manifests if each.profile is None]

    def set_live_profile(self, version: int, profile: Profile | None) -> None:
        """Judge a version whose bundle has no profile by this one, made from its log; by none."""
        if self._live_profiles.get(version) is profile:
            return
        if profile is None:
            del self._live_profiles[version]
        else:
            self._live_profiles[version] = profile
        if self.batcher.live is not None and version == self.live_version:
            self._judge_stable(self.batcher.live)
        if self._canary is not None and version == _version_of(self._canary):
            self._judge_canary(self._canary)

    def set_fault(self, fault: str | None, absence: Reason = "no_model") -> None:
        """Say why the wanted version does not serve; None where it does."""
        self.fault = fault
        self.batcher.absence = absence
        self._show_degraded()

    def set_pinned(self, is_pinned: bool) -> None:
        """Let the heuristic answer everything, or the model again."""
        self.batcher.is_pinned = is_pinned
        self._show_degraded()

    def describe(self) -> dict[str, Any]:
        """What `/v1/policies` tells of it."""
        manifest = None if self.batcher.live is None else self.batcher.live.policy.manifest
        return {
            "policy": self.name,
            "stable": self.live_version,
            "bundle_sha256": None if self.batcher.live is None else self.batcher.live.bundle_sha256,
            "live_since": self.live_since,
            "source": "heuristic" if manifest is None or self.batcher.is_pinned else "model",
            "pinned": self.batcher.is_pinned,
            "degraded": self.is_degraded,
            "fault": self.fault,
            "observation": self.declaration.observation.model_dump(mode="json"),
            "actions": self.declaration.actions.model_dump(mode="json"),
            "heuristic": self.declaration.heuristic.behaviour,
            "profile": None if manifest is None else self._profile_source(manifest),
            "drift": self._drift.describe(),
        }

    def close(self) -> None:
        """Let the model's thread go."""
        self._executor.shutdown(wait=True)

    def _profile_of(self, live: Live) -> Profile | None:
        manifest = live.policy.manifest
        return manifest.profile or self._live_profiles.get(manifest.version)

    def _profile_source(self, manifest: Manifest) -> str | None:
        if manifest.profile is not None:
            return "bundle"
        return "live" if manifest.version in self._live_profiles else None

    def _judge_stable(self, live: Live) -> None:
        profile = self._profile_of(live)
        self._q_health["stable"].begin_version(_q_maximum(profile))
        self._drift.begin_version(None if profile is None else profile.drift)

    def _judge_canary(self, live: Live) -> None:
        self._q_health["canary"].begin_version(_q_maximum(self._profile_of(live)))

    def _assign(self, question: Question) -> None:
        if self.choose is not None and question.episode_ids is not None:
            placed = self.choose(question.episode_ids, question.steps, question.started_at)
            question.lives = [each.live for each in placed]
            salts = [each.salt for each in placed]
            # After a promotion rows are looked up for an hour without anything being on trial.
            question.salts = salts if any(salts) else None

    def _show_version(self, version: int, value: float) -> None:
        self._metrics.counter("dqn_policy_info", self.name, "stable", str(version)).set(value)

    def _show_in_flight(self) -> None:
        self._in_flight.set(self.batcher.rows)

    def _show_degraded(self) -> None:
        reason = "pinned" if self.batcher.is_pinned else self.batcher.absence
        for each in ("no_model", "load_failed", "pinned"):
            gauge = self._metrics.counter("dqn_policy_degraded", self.name, each)
            gauge.set(float(self.is_degraded and each == reason))


def _version_of(live: Live | None) -> int | None:
    return None if live is None else live.policy.manifest.version


def _q_maximum(profile: Profile | None) -> float | None:
    return None if profile is None else profile.absolute_q_maximum


def _explorer(declaration: PolicyDeclaration, rng: np.random.Generator) -> Explorer | None:
    epsilon, num_actions = declaration.exploration.epsilon, declaration.actions.count
    if not epsilon:
        return None

    def replace_some(batch: Batch, chosen: Chosen) -> None:
        rows = batch.exploring_rows()
        if rows is not None:
            explore(chosen, rows, batch.action_masks, num_actions, epsilon, rng)

    return replace_some
