"""The live signals of a policy, from two readings of the metrics: pure, and the console's alone."""

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from prometheus_client.core import Metric

SLO_SECONDS: Final = 0.010
_FAMILIES: Final = frozenset(
    {
        "dqn_decisions",
        "dqn_decision_seconds",
        "dqn_q_value_max",
        "dqn_q_value_training_max",
        "dqn_spool_bytes",
        "dqn_spool_limit_bytes",
        "dqn_spool_oldest_seconds",
        "dqn_records_dropped",
        "dqn_redis_up",
        "dqn_disk_free_bytes",
    }
)


class Reading(NamedTuple):
    """What the metrics said at one time."""

    at: float
    """Monotonic, seconds."""
    samples: dict[tuple[str, ...], float]
    """By the sample's name and its label values, in the family's order."""


def read(families: Iterable[Metric], at: float) -> Reading:
    """Keep what the signals are made of."""
    found = (metric for metric in families if metric.name in _FAMILIES)
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for metric in found
        for sample in metric.samples
    }
    return Reading(at, samples)


def policy_signals(before: Reading, after: Reading, policy: str) -> dict[str, Any]:
    """Rates and quantiles between two readings; None where nothing was decided between them."""
    grown = {
        labels: after.samples[("dqn_decisions_total", policy, *labels)] - value
        for labels, value in _under(before, "dqn_decisions_total", policy)
    }
    decided = sum(grown.values())
    reasons: dict[str, float] = {}
    for (_, source, reason), rows in grown.items():
        if source == "heuristic" and rows > 0:
            reasons[reason] = reasons.get(reason, 0.0) + rows / decided
    seconds = after.at - before.at
    buckets = _buckets(before, after, policy)
    return {
        "decisions_per_second": decided / seconds if seconds > 0 else None,
        "model_share": 1.0 - sum(reasons.values()) if decided else None,
        "reasons": reasons,
        "p50_seconds": quantile(buckets, 0.5),
        "p99_seconds": quantile(buckets, 0.99),
        "in_time_share": share_within(buckets, SLO_SECONDS),
        "q_max": after.samples.get(("dqn_q_value_max", policy, "stable")),
        "q_training_max": after.samples.get(("dqn_q_value_training_max", policy, "stable")),
    }


def log_signals(before: Reading, after: Reading) -> dict[str, float | None]:
    """Where the transition log stands."""
    dropped = sum(
        value - before.samples.get(("dqn_records_dropped_total", *labels), 0.0)
        for labels, value in _under(after, "dqn_records_dropped_total")
    )
    named = {
        "spool_bytes": "dqn_spool_bytes",
        "spool_limit_bytes": "dqn_spool_limit_bytes",
        "oldest_seconds": "dqn_spool_oldest_seconds",
        "disk_free_bytes": "dqn_disk_free_bytes",
        "redis_up": "dqn_redis_up",
    }
    gauges = {key: after.samples.get((name,)) for key, name in named.items()}
    return gauges | {"dropped": dropped}


def quantile(buckets: list[tuple[float, float]], rank: float) -> float | None:
    """The value at a rank, straight within its bucket, as Prometheus reckons it.

    None where nothing was observed; the last finite edge for what lies beyond it.

    Args:
        buckets: (upper edge, observations at or below it), ascending, +Inf last.
        rank: In (0, 1).
    """
    total = buckets[-1][1] if buckets else 0.0
    if total <= 0:
        return None
    wanted, low, below = rank * total, 0.0, 0.0
    for edge, count in buckets:
        if count >= wanted:
            if edge == float("inf"):
                return low
            return low + (edge - low) * (wanted - below) / (count - below)
        low, below = edge, count
    return low


def share_within(buckets: list[tuple[float, float]], edge: float) -> float | None:
    """Share of the observations at or below one of the edges; None where there are none."""
    total = buckets[-1][1] if buckets else 0.0
    return dict(buckets)[edge] / total if total > 0 else None


def _buckets(before: Reading, after: Reading, policy: str) -> list[tuple[float, float]]:
    name = "dqn_decision_seconds_bucket"
    return sorted(
        (float(edge), value - before.samples.get((name, policy, edge), 0.0))
        for (edge,), value in _under(after, name, policy)
    )


def _under(reading: Reading, *start: str) -> Iterator[tuple[tuple[str, ...], float]]:
    """The samples whose name and first labels are these, by their other labels."""
    size = len(start)
    for key, value in reading.samples.items():
        if key[:size] == start:
            yield key[size:], value
