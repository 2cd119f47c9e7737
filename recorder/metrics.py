"""Every series the recorder exports, in one table."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from contract.join import Counted
from recorder.signed_histogram import SignedHistogram

VARIANTS: Final = ("stable", "canary", "shadow")
RESULTS: Final[tuple[Counted, ...]] = (
    "joined",
    "duplicate",
    "late",
    "unknown",
    "no_history",
)

_POSITIVE: Final = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 1e4, 1e5, 1e6)
_SIGNED: Final = (*(-edge for edge in reversed(_POSITIVE)), 0.0, *_POSITIVE)
_LAG_SECONDS: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)


class RecorderMetrics:
    """Owns a registry of its own, so that several stand side by side."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.records = Counter(
            "dqn_records_total", "Records by how far they got.", ["stage"], registry=self.registry
        )
        self.records.labels("sealed")
        self.shards = Counter("dqn_shards_total", "Shards sealed.", registry=self.registry)
        self.dead_letters = Counter(
            "dqn_dead_letters_total", "Records that did not decode.", registry=self.registry
        )
        self.stream_pending = Gauge(
            "dqn_stream_pending", "Entries of all streams, not yet sealed.", registry=self.registry
        )
        self.redis_up = Gauge(
            "dqn_redis_up", "1 while Redis gives what it holds.", registry=self.registry
        )
        self.last_pass = Gauge(
            "dqn_recorder_last_pass_timestamp_seconds",
            "When all that had come was last sealed and looked at.",
            registry=self.registry,
        )
        self.outcomes = Counter(
            "dqn_outcomes_total",
            "Outcomes by what the join made of them.",
            ["result"],
            registry=self.registry,
        )
        for result in RESULTS:
            self.outcomes.labels(result)
        self.episodes_evicted = Counter(
            "dqn_episodes_evicted_total",
            "Open episodes dropped to make room.",
            registry=self.registry,
        )
        self.reward = SignedHistogram(
            "dqn_reward", "Reward of one step.", ["policy", "variant"], _SIGNED, self.registry
        )
        self.episode_return = SignedHistogram(
            "dqn_episode_return",
            "Undiscounted return of one complete episode.",
            ["policy", "variant"],
            _SIGNED,
            self.registry,
        )
        self.outcome_lag = Histogram(
            "dqn_outcome_lag_seconds",
            "From a decision to its outcome.",
            ["policy"],
            buckets=_LAG_SECONDS,
            registry=self.registry,
        )
        self.join_ratio = Gauge(
            "dqn_join_ratio",
            "Share of decisions that got an outcome, of about the last 10,000 closed.",
            ["policy"],
            registry=self.registry,
        )

    def add_policy(self, policy: str) -> None:
        """Make a policy's children, so that rates work from the first event."""
        self.outcome_lag.labels(policy)
        for variant in VARIANTS:
            self.reward.add_child(policy, variant)
            self.episode_return.add_child(policy, variant)
