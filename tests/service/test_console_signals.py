from math import inf

import pytest

from service.metrics import Metrics
from service.monitoring.signals import (
    Reading,
    log_signals,
    policy_signals,
    quantile,
    read,
    share_within,
)

P = "cartpole"


def readings(*, seconds: float = 4.0) -> tuple[Metrics, Reading]:
    metrics = Metrics()
    for reason in ("deadline", "q_bound"):
        metrics.counter("dqn_decisions_total", P, "stable", "heuristic", reason).add(100)
    for variant in ("stable", "canary"):
        metrics.counter("dqn_decisions_total", P, variant, "model", "none").add(500)
    metrics.histogram("dqn_decision_seconds", P).observe_each([0.2] * 9)
    return metrics, read(metrics.collect(), 10.0)


def test_shares_and_rates_are_of_what_grew_and_of_all_variants() -> None:
    metrics, before = readings()
    metrics.counter("dqn_decisions_total", P, "stable", "heuristic", "deadline").add(1)
    metrics.counter("dqn_decisions_total", P, "stable", "model", "none").add(4)
    metrics.counter("dqn_decisions_total", P, "canary", "model", "none").add(3)
    metrics.counter("dqn_decisions_total", "other", "stable", "model", "none").add(99)
    found = policy_signals(before, read(metrics.collect(), 14.0), P)
    assert found["decisions_per_second"] == 2.0
    assert found["model_share"] == 0.875
    assert found["reasons"] == {"deadline": 0.125}


def test_latency_is_of_what_was_observed_between_the_readings() -> None:
    metrics, before = readings()
    metrics.histogram("dqn_decision_seconds", P).observe_each([0.0015] * 3 + [0.012])
    found = policy_signals(before, read(metrics.collect(), 14.0), P)
    assert found["in_time_share"] == 0.75
    assert found["p50_seconds"] == pytest.approx(0.001 + 0.001 * 2 / 3)
    assert found["p99_seconds"] == pytest.approx(0.010 + 0.0025 * 0.96)


def test_where_nothing_was_decided_nothing_is_claimed() -> None:
    metrics, before = readings()
    found = policy_signals(before, read(metrics.collect(), 14.0), P)
    assert found["decisions_per_second"] == 0.0
    assert found["model_share"] is None
    assert found["p99_seconds"] is None
    assert found["in_time_share"] is None
    assert policy_signals(before, before, P)["decisions_per_second"] is None


def test_a_quantile_beyond_the_last_edge_is_that_edge() -> None:
    buckets = [(1.0, 1.0), (2.0, 1.0), (inf, 4.0)]
    assert quantile(buckets, 0.25) == 1.0
    assert quantile(buckets, 0.5) == 2.0
    assert share_within(buckets, 2.0) == 0.25
    assert quantile([], 0.5) is None


def test_dropped_records_are_those_of_the_window_and_of_every_reason() -> None:
    metrics = Metrics()
    metrics.counter("dqn_records_dropped_total", "disk").add(5)
    metrics.counter("dqn_spool_bytes").set(7)
    before = read(metrics.collect(), 0.0)
    metrics.counter("dqn_records_dropped_total", "disk").add(2)
    metrics.counter("dqn_records_dropped_total", "queue").add(1)
    found = log_signals(before, read(metrics.collect(), 1.0))
    assert found["dropped"] == 3.0
    assert found["spool_bytes"] == 7.0
    assert found["redis_up"] is None
