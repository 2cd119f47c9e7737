"""What a trial has shown, as series."""

from math import log
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from contract.evidence import PROMOTION_EVIDENCE, ROLLBACK_EVIDENCE
from contract.rollout import Rollout
from recorder.judgement import Ruling
from recorder.trial import Trial

VERDICTS: Final = ("promote", "roll_back", "undecided")
THRESHOLDS: Final = {"rollback": ROLLBACK_EVIDENCE, "promotion": PROMOTION_EVIDENCE}
_LEAST: Final = -50.0


class RolloutMetrics:
    """Owns the rollout's series of the recorder."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._evidence = Gauge(
            "dqn_rollout_log_evidence",
            "Natural logarithm of the evidence of each test of the open trial.",
            ["policy", "test"],
            registry=registry,
        )
        thresholds = Gauge(
            "dqn_rollout_threshold",
            "Natural logarithm of the evidence at which a test has decided.",
            ["test"],
            registry=registry,
        )
        for test, threshold in THRESHOLDS.items():
            thresholds.labels(test).set(log(threshold))
        self._verdicts = Counter(
            "dqn_rollout_verdicts_total",
            "Verdicts that trials have come to.",
            ["policy", "verdict"],
            registry=registry,
        )
        self._last: dict[str, tuple[str, str]] = {}

    def show(self, policy: str, rollout: Rollout, trial: Trial, ruling: Ruling) -> None:
        """Take what the judge has weighed."""
        evidence = trial.evidence
        for test, value in (
            ("rollback", evidence.log_rollback),
            ("promotion", evidence.log_promotion),
        ):
            # Without a return range nothing speaks for a promotion; a gauge has no use for -Inf.
            self._evidence.labels(policy, test).set(max(value, _LEAST))
        if policy not in self._last:
            for verdict in VERDICTS:
                self._verdicts.labels(policy, verdict)
        found = (rollout.rollout_id, ruling.verdict)
        if self._last.get(policy) != found:
            self._last[policy] = found
            self._verdicts.labels(policy, ruling.verdict).inc()
