"""Every series that retraining exports, in one table."""

from typing import Final, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

from retraining.state import CycleState, Outcome, Stage

OUTCOMES: Final = (*get_args(Outcome), "failed")
STAGES: Final = get_args(Stage)


class RetrainingMetrics:
    """Owns a registry of its own."""

    def __init__(self, policy: str) -> None:
        self._policy = policy
        self.registry = CollectorRegistry()
        self._runs = Counter(
            "dqn_retrain_runs_total",
            "Cycles that ended, by how.",
            ["policy", "outcome"],
            registry=self.registry,
        )
        for outcome in OUTCOMES:
            self._runs.labels(policy, outcome)
        self._last_success = Gauge(
            "dqn_retrain_last_success_timestamp_seconds",
            "When a cycle last came to a verdict, whatever it was.",
            ["policy"],
            registry=self.registry,
        )
        self._advantage = Gauge(
            "dqn_retrain_candidate_advantage",
            "Estimated gain of the last candidate over the current policy, in learned rewards.",
            ["policy"],
            registry=self.registry,
        )
        self._lower_bound = Gauge(
            "dqn_retrain_candidate_advantage_lower_bound",
            "The same, at least, with 95 % confidence.",
            ["policy"],
            registry=self.registry,
        )
        self._suspicious = Gauge(
            "dqn_retrain_suspicious_episodes",
            "Episodes that the last cycle left out.",
            ["policy"],
            registry=self.registry,
        )
        self._stage = Gauge(
            "dqn_retrain_stage",
            "1 for the stage that a cycle is in.",
            ["policy", "stage"],
            registry=self.registry,
        )
        self.show_stage("done")

    def show_stage(self, current: Stage) -> None:
        """Tell which stage is next."""
        for stage in STAGES:
            self._stage.labels(self._policy, stage).set(float(stage == current))

    def show_end(self, state: CycleState) -> None:
        """Count a cycle that is over."""
        self._runs.labels(self._policy, state.outcome).inc()
        self._suspicious.labels(self._policy).set(sum(state.suspicious.values()))
        if state.verdict is not None and state.finished_at is not None:
            evidence = state.verdict.evidence
            self._last_success.labels(self._policy).set(state.finished_at)
            self._advantage.labels(self._policy).set(evidence.advantage)
            self._lower_bound.labels(self._policy).set(evidence.advantage_lower_bound)

    def show_failure(self) -> None:
        """Count a cycle that could not go on for now."""
        self._runs.labels(self._policy, "failed").inc()
