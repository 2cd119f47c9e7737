"""Returns and promises beside training's, per policy and variant, as metrics."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from contract.conduct import ConductReference
from contract.drift_reference import ColumnReference
from contract.join import Join
from contract.manifest import Manifest
from contract.transitions import Episode, Transition
from recorder.hacking import CHECKS, Audit, Caught, HackingChecks
from recorder.q_calibration import NUM_DECILES, QCalibration
from recorder.reward_health import ReturnReference, ReturnWatch
from recorder.reward_metrics import variant_of
from recorder.traces import Trace, Traces

RECENT_EPISODES: Final = 100

ManifestOf = Callable[[str, int], Manifest | None]
"""What a version promises; None where its bundle is not to be had."""

_log = structlog.get_logger(__name__)


class HealthMetrics:
    """The series that tell whether rewards are well, in one table."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, ["policy", "variant"], registry=registry)

        self.episodes = Counter(
            "dqn_episodes_total",
            "Complete episodes in which the model acted first.",
            ["policy", "variant"],
            registry=registry,
        )
        self.recent_mean = gauge(
            "dqn_episode_return_recent_mean", "Mean return of the last 100 complete episodes."
        )
        self.training_mean = gauge(
            "dqn_episode_return_training_mean", "Mean return of the profile's episodes."
        )
        self.floor = gauge("dqn_episode_return_floor", "Mean return of the heuristic, at export.")
        self.fall_score = gauge(
            "dqn_reward_fall_score", "Evidence that returns have fallen below training's."
        )
        self.fall_threshold = gauge(
            "dqn_reward_fall_threshold", "Evidence that chance passes once in 100,000 episodes."
        )
        self.bias = gauge(
            "dqn_q_calibration_gap",
            "Mean of Q-value less discounted return, in standard deviations of returns.",
        )
        self.slope = gauge(
            "dqn_q_calibration_slope", "Discounted return gained for each unit of Q-value."
        )
        self.error = gauge(
            "dqn_q_calibration_error", "Mean gap of the Q-value's deciles over the returns' range."
        )
        deciles = ["policy", "variant", "decile"]
        self.decile_promise = Gauge(
            "dqn_q_calibration_decile_promise",
            "Mean Q-value of each tenth of the promises, 1 the smallest.",
            deciles,
            registry=registry,
        )
        self.decile_return = Gauge(
            "dqn_q_calibration_decile_return",
            "Mean discounted return that came of each tenth of the promises.",
            deciles,
            registry=registry,
        )
        self.consistency = gauge(
            "dqn_q_consistency_gap", "Mean of Q-value less 20 rewards and the Q-value after them."
        )
        self.quarantined = Counter(
            "dqn_episodes_quarantined_total",
            "Episodes kept out of retraining, by the first check that they did not pass.",
            ["policy", "test"],
            registry=registry,
        )
        self.audit_correlation = Gauge(
            "dqn_reward_audit_correlation",
            "Rank correlation of returns with the audit metric over 500 episodes.",
            ["policy"],
            registry=registry,
        )


@dataclass
class _Watched:
    """One policy and variant under one version."""

    manifest: Manifest
    since: float
    """When the first episode that is known of it began, Unix seconds."""
    watch: ReturnWatch | None
    calibration: QCalibration = field(default_factory=QCalibration)
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_EPISODES))


class RewardHealth:
    """A consumer of the join. What it has weighed begins anew with a version and with a restart."""

    def __init__(
        self,
        metrics: HealthMetrics,
        manifest_of: ManifestOf,
        quarantine: Callable[[Caught], None],
        audit_of: Callable[[str], Audit | None] = lambda policy: None,
    ) -> None:
        """Watch nothing yet.

        Args:
            metrics: Where it is told.
            manifest_of: The profile, floor, discount and reward transform of a version.
            quarantine: Keeps an episode out of what is learned from.
            audit_of: How a policy's episode did in something that its reward does not pay for.
        """
        self._metrics = metrics
        self._manifest_of = manifest_of
        self._quarantine = quarantine
        self._audit_of = audit_of
        self._traces = Traces(self._columns_of)
        self._watched: dict[tuple[str, str], _Watched] = {}
        self._checks: dict[str, HackingChecks] = {}

    def on_transition(self, transition: Transition) -> None:
        """A step was joined."""
        self._traces.add(transition)

    def on_episode(self, episode: Episode) -> None:
        """An episode was closed."""
        trace = self._traces.add(episode)
        # Parts of episodes return little for being parts, and a heuristic's return is not the
        # model's.
        if trace is None or not trace.is_complete or trace.answered_by[0].source != "model":
            return
        variant = variant_of(episode)
        self._metrics.episodes.labels(episode.policy, variant).inc()
        watched = self._find(trace, variant)
        if watched is None:
            return
        manifest = watched.manifest
        watched.recent.append(trace.episode_return)
        watched.calibration.add(trace, manifest.discount, manifest.reward_transform)
        if watched.watch is not None:
            watched.watch.add(trace.episode_return)
        self._checks_of(episode.policy).add(trace)

    def on_pass(self, now: float, join: Join) -> None:
        """Tell what is known."""
        for (policy, variant), watched in self._watched.items():
            self._tell(policy, variant, watched)
        for policy, checks in self._checks.items():
            correlation = checks.audit_correlation
            if correlation is not None:
                self._metrics.audit_correlation.labels(policy).set(correlation)

    def _tell(self, policy: str, variant: str, watched: _Watched) -> None:
        metrics, labels = self._metrics, (policy, variant)
        metrics.recent_mean.labels(*labels).set(float(np.mean(watched.recent)))
        if watched.watch is not None:
            metrics.fall_score.labels(*labels).set(watched.watch.score)
            metrics.fall_threshold.labels(*labels).set(watched.watch.threshold)
        found, gap = watched.calibration.calibration, watched.calibration.consistency_gap
        # A number of the version before would be held against this one.
        metrics.bias.labels(*labels).set(np.nan if found is None else found.bias)
        metrics.slope.labels(*labels).set(np.nan if found is None else found.slope)
        metrics.error.labels(*labels).set(np.nan if found is None else found.error)
        metrics.consistency.labels(*labels).set(np.nan if gap is None else gap)
        unknown = ((np.nan, np.nan),) * NUM_DECILES
        for number, (promise, came) in enumerate(unknown if found is None else found.deciles, 1):
            metrics.decile_promise.labels(*labels, str(number)).set(promise)
            metrics.decile_return.labels(*labels, str(number)).set(came)

    def _find(self, trace: Trace, variant: str) -> _Watched | None:
        """What is known of the variant's version; begun anew where another version acts."""
        version = trace.answered_by[0].version
        manifest = None if version is None else self._manifest_of(trace.policy, version)
        if manifest is None:
            return None
        key = (trace.policy, variant)
        known = self._watched.get(key)
        # The same version may have got a profile since.
        if known is not None and (known.manifest is manifest or known.manifest == manifest):
            return known
        if known is not None and trace.started_at <= known.since:
            # It began under the version before, and ends late.
            return None
        watch = None
        if manifest.profile is not None:
            reference = ReturnReference.of(manifest.profile, manifest.floor)
            watch = ReturnWatch(reference)
            self._metrics.training_mean.labels(*key).set(reference.mean)
            self._metrics.floor.labels(*key).set(reference.floor)
        self._watched[key] = _Watched(manifest, trace.started_at, watch)
        return self._watched[key]

    def _checks_of(self, policy: str) -> HackingChecks:
        if policy not in self._checks:

            def reference_of(version: int | None) -> ConductReference | None:
                manifest = None if version is None else self._manifest_of(policy, version)
                profile = None if manifest is None else manifest.profile
                return None if profile is None else profile.conduct

            audit = self._audit_of(policy)
            self._checks[policy] = HackingChecks(reference_of, self._catch, audit)
            for check in CHECKS:
                self._metrics.quarantined.labels(policy, check)
        return self._checks[policy]

    def _catch(self, caught: Caught) -> None:
        # Once an episode, so that the counts of all checks add up to episodes.
        self._metrics.quarantined.labels(caught.policy, caught.checks[0]).inc()
        _log.warning("episode_quarantined", policy=caught.policy, why=caught.why)
        self._quarantine(caught)

    def _columns_of(self, policy: str, version: int | None) -> tuple[ColumnReference, ...]:
        manifest = None if version is None else self._manifest_of(policy, version)
        profile = None if manifest is None else manifest.profile
        return () if profile is None or profile.drift is None else profile.drift.observations
