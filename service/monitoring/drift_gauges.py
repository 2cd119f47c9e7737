"""What the last window said of drift, as metrics."""

from typing import Final

from service.metrics import Metrics
from service.monitoring.drift import SIGNALS, Drift, Finding
from service.monitoring.drift_window import TESTS

_UNKNOWN: Final = float("nan")


class DriftGauges:
    """Owns the drift series of one policy."""

    def __init__(self, metrics: Metrics, policy: str) -> None:
        pairs = [(signal, test) for signal in SIGNALS for test in TESTS]
        self._scores = {pair: metrics.counter("dqn_drift_score", policy, *pair) for pair in pairs}
        self._thresholds = {
            pair: metrics.counter("dqn_drift_threshold", policy, *pair) for pair in pairs
        }
        self._alarming = metrics.counter("dqn_drift_features_alarming", policy)
        self._armed = metrics.counter("dqn_drift_armed", policy)

    def show(self, drift: Drift) -> None:
        """Tell what is known; what is not is NaN, and never reads as well."""
        found: dict[tuple[str, str], Finding] = {
            (finding.signal, finding.test): finding for finding in drift.report.findings
        }
        for pair in self._scores:
            finding = found.get(pair)
            self._scores[pair].set(_UNKNOWN if finding is None else finding.statistic)
            self._thresholds[pair].set(_UNKNOWN if finding is None else finding.limit)
        self._alarming.set(drift.report.num_alarming)
        self._armed.set(float(drift.is_armed))
