import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open

from service.metrics import FAMILIES, Metrics, exported_names
from service.pages import Page
from tests.service.running import Running, families_of, sample, wait_until

LEFT = [0.0, 0.0, -0.1, 0.0]


def text(metrics: Metrics) -> str:
    return generate_latest(metrics.registry).decode()


def test_the_page_parses_and_every_series_is_in_the_table(service: Running) -> None:
    response = service.client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    families = families_of(response.text)
    found = {each.name for family in families for each in family.samples}
    assert found <= exported_names()
    without_children = {family.name for family in families if not family.samples}
    # What only Redis and a supervisor have.
    assert without_children == {
        "dqn_redis_up", "dqn_spool_oldest_seconds", "dqn_worker_restarts",
    }  # fmt: skip


def test_open_metrics_parses_too(service: Running) -> None:
    response = service.client.get("/metrics", headers={"accept": "application/openmetrics-text"})
    families = {family.name for family in parse_open(response.text)}  # type: ignore[no-untyped-call]
    assert {"dqn_decisions", "dqn_decision_seconds", "dqn_spool_bytes"} <= families


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("dqn_http_requests_total", {"route": "/v1/actions", "code": "429"}),
        ("dqn_http_requests_total", {"route": "/v1/transitions", "code": "507"}),
        (
            "dqn_decisions_total",
            {
                "policy": "cartpole",
                "variant": "stable",
                "source": "heuristic",
                "reason": "overload",
            },
        ),
        ("dqn_shed_total", {"policy": "cartpole"}),
        ("dqn_deadline_missed_total", {"policy": "cartpole"}),
        ("dqn_policy_loads_total", {"policy": "cartpole", "outcome": "failed"}),
        ("dqn_actions_total", {"policy": "cartpole", "variant": "stable", "action": "0"}),
        ("dqn_outcomes_total", {"result": "invalid"}),
        ("dqn_records_dropped_total", {"reason": "spool_full"}),
        ("dqn_q_nonfinite_total", {"policy": "cartpole", "variant": "stable"}),
        ("dqn_keys_stale", {}),
    ],
)
def test_a_series_is_there_before_anything_happens(
    without_model: Running, name: str, labels: dict[str, str]
) -> None:
    assert without_model.metric(name, **labels) >= 0


@pytest.mark.parametrize("has_lane", [True, False])
def test_a_call_moves_the_right_series_by_the_right_amount(
    service: Running, has_lane: bool
) -> None:
    labels = {"policy": "cartpole"}
    stable = labels | {"variant": "stable"}
    watched = {
        "decisions": ("dqn_decisions_total", stable | {"source": "model", "reason": "none"}),
        "requests": ("dqn_http_requests_total", {"route": "/v1/actions", "code": "200"}),
        "seconds": ("dqn_decision_seconds_count", labels),
        "queue": ("dqn_queue_seconds_count", labels),
        "inference": ("dqn_inference_seconds_count", labels),
        "batches": ("dqn_batch_rows_count", labels),
        "rows": ("dqn_batch_rows_sum", labels),
        "left": ("dqn_actions_total", stable | {"action": "0"}),
        "right": ("dqn_actions_total", stable | {"action": "1"}),
        "q_all": ("dqn_q_value_bucket", stable | {"le": "+Inf"}),
        "q_to_0.3": ("dqn_q_value_bucket", stable | {"le": "0.3"}),
        "q_to_1": ("dqn_q_value_bucket", stable | {"le": "1.0"}),
        "gap_sum": ("dqn_action_gap_sum", stable),
    }

    def read() -> dict[str, float]:
        page = service.client.get("/metrics").text
        return {key: sample(page, name, **labels) for key, (name, labels) in watched.items()}

    before = read()
    client = service.client if has_lane else service.plain
    client.post("/v1/actions", json={"observations": [LEFT, LEFT, [0, 0, 0.2, 0]]})
    moved = {key: round(value - before[key], 4) for key, value in read().items()}
    assert moved == {
        "decisions": 3, "requests": 1, "seconds": 1, "queue": 1, "inference": 1,
        "batches": 1, "rows": 3, "left": 2, "right": 1,
        # Q is 0.32 and -0.29 on the left twice, -0.58 and 0.61 on the right.
        "q_all": 3, "q_to_0.3": 0, "q_to_1": 3, "gap_sum": 2.41,
    }  # fmt: skip


@pytest.mark.parametrize("has_lane", [True, False])
@pytest.mark.parametrize(
    ("method", "path", "route", "code"),
    [
        ("POST", "/v1/actions", "/v1/actions", "400"),
        ("POST", "/v1/outcomes", "/v1/outcomes", "400"),
        ("GET", "/v1/actions", "/v1/actions", "405"),
        ("GET", "/v1/policies", "/v1/policies", "200"),
        ("GET", "/v1/policies/cartpole", "/v1/policies/{policy}", "200"),
        ("GET", "/v1/policies/pong", "/v1/policies/{policy}", "404"),
        ("POST", "/v1/policies/cartpole/pin", "/v1/policies/{policy}/pin", "422"),
        ("GET", "/made/up", "unknown", "404"),
    ],
)
def test_every_answer_is_counted_once_under_its_routes_template(
    without_model: Running, method: str, path: str, route: str, code: str, has_lane: bool
) -> None:
    def count() -> float:
        page = without_model.client.get("/metrics").text
        try:
            return sample(page, "dqn_http_requests_total", route=route, code=code)
        except KeyError:
            return 0.0

    before = count()
    client = without_model.client if has_lane else without_model.plain
    client.request(method, path, content=b"{" if method == "POST" else None)
    assert count() == before + 1


def test_the_objectives_ten_milliseconds_are_an_edge_of_their_own() -> None:
    metrics = Metrics()
    seconds = metrics.histogram("dqn_decision_seconds", "p")
    for value in (0.009, 0.010, 0.0100001):
        seconds.observe(value)
    page = text(metrics)
    assert sample(page, "dqn_decision_seconds_bucket", policy="p", le="0.01") == 2
    assert sample(page, "dqn_decision_seconds_bucket", policy="p", le="0.008") == 0
    assert sample(page, "dqn_decision_seconds_bucket", policy="p", le="+Inf") == 3
    assert sample(page, "dqn_decision_seconds_count", policy="p") == 3
    assert sample(page, "dqn_decision_seconds_sum", policy="p") == pytest.approx(0.0290001)


def test_a_histogram_loses_nothing_between_its_flushes() -> None:
    metrics = Metrics()
    rows = metrics.histogram("dqn_batch_rows", "p")
    for value in range(20_000):
        rows.observe(float(value % 5))
    rows.observe_all(np.array([7.0, 2000.0]))
    page = text(metrics)
    assert sample(page, "dqn_batch_rows_count", policy="p") == 20_002
    assert sample(page, "dqn_batch_rows_sum", policy="p") == 40_000 + 2007
    assert sample(page, "dqn_batch_rows_bucket", policy="p", le="2.0") == 12_000
    assert sample(page, "dqn_batch_rows_bucket", policy="p", le="1024.0") == 20_001


def test_workers_pages_are_one_answer(tmp_path: Path) -> None:
    first, second = (Metrics(Page(tmp_path, name)) for name in ("first", "second"))
    for metrics, count in ((first, 3), (second, 40)):
        metrics.counter("dqn_shed_total", "p").add(count)
        metrics.counter("dqn_spool_bytes").set(count)
        metrics.counter("dqn_spool_limit_bytes").set(count)
        metrics.histogram("dqn_batch_rows", "p").observe(count)
        metrics.flush()
    second.counter("dqn_shed_total", "only second").add(5)
    for metrics in (first, second):
        page = text(metrics)
        assert sample(page, "dqn_shed_total", policy="p") == 43
        assert sample(page, "dqn_shed_total", policy="only second") == 5
        assert sample(page, "dqn_spool_bytes") == 43
        assert sample(page, "dqn_spool_limit_bytes") == 43
        assert sample(page, "dqn_batch_rows_sum", policy="p") == 43
        assert sample(page, "dqn_batch_rows_bucket", policy="p", le="4.0") == 1


def test_what_one_worker_knows_stands_where_another_does_not(tmp_path: Path) -> None:
    first, second = (Metrics(Page(tmp_path, name)) for name in ("first", "second"))
    labels = ("dqn_q_value_training_max", "p", "stable")
    first.counter(*labels).set(float("nan"))
    second.counter(*labels).set(20.0)
    for metrics in (first, second):
        value = sample(text(metrics), "dqn_q_value_training_max", policy="p", variant="stable")
        assert value == 20.0


DIES = """
import os, sys
from pathlib import Path
from service.metrics import Metrics
from service.pages import Page
metrics = Metrics(Page(Path(sys.argv[1]), "dead"))
metrics.counter("dqn_shed_total", "p").add(7)
metrics.counter("dqn_spool_bytes").set(1000)
os.kill(os.getpid(), 9)
"""


def test_a_killed_workers_counts_stay_and_its_gauges_go(tmp_path: Path) -> None:
    metrics = Metrics(Page(tmp_path, "alive"))
    metrics.counter("dqn_shed_total", "p").add(1)
    metrics.counter("dqn_spool_bytes").set(5)
    killed = subprocess.run([sys.executable, "-c", DIES, str(tmp_path)], check=False)
    assert killed.returncode == -9
    page = text(metrics)
    assert sample(page, "dqn_shed_total", policy="p") == 8
    assert sample(page, "dqn_spool_bytes") == 5


def test_a_page_that_is_just_being_made_is_passed_over(tmp_path: Path) -> None:
    metrics = Metrics(Page(tmp_path, "alive"))
    metrics.counter("dqn_shed_total", "p").add(1)
    (tmp_path / "half.keys").write_bytes(b'[["dqn_shed_total","p"],0,1]\n[["dqn_sh')
    assert sample(text(metrics), "dqn_shed_total", policy="p") == 1
    (tmp_path / "half.page").write_bytes(np.array([2.0]).tobytes())
    assert sample(text(metrics), "dqn_shed_total", policy="p") == 3


def test_a_pages_space_is_taken_when_it_is_made(tmp_path: Path) -> None:
    # A sparse one would kill the worker with a signal once the disk is full.
    page = Page(tmp_path, "whole")
    status = os.stat(tmp_path / "whole.page")
    assert status.st_blocks * 512 >= status.st_size > 0
    page.close()


def test_a_label_too_many_or_too_few_is_a_mistake() -> None:
    metrics = Metrics()
    with pytest.raises(ValueError, match="dqn_shed_total"):
        metrics.counter("dqn_shed_total")
    with pytest.raises(ValueError, match="dqn_batch_rows"):
        metrics.counter("dqn_batch_rows", "p")


def test_names_say_their_kind_and_no_label_is_open() -> None:
    closed = {
        "policy", "variant", "source", "reason", "route", "code", "action", "stage", "result",
        "outcome", "version", "release", "signal", "test",
    }  # fmt: skip
    for family in FAMILIES:
        assert family.name.startswith("dqn_")
        assert family.name.endswith("_total") == (family.kind == "counter")
        assert set(family.labels) <= closed
        assert "version" not in family.labels or family.name.endswith("_info")


def test_a_quiet_worker_puts_its_numbers_where_others_see_them(service: Running) -> None:
    service.act([LEFT])
    seconds = service.server.metrics.histogram("dqn_decision_seconds", "cartpole")
    # Nobody scrapes it: it is its own sweep that brings them there.
    wait_until(lambda: not seconds._values, "the values are on the page")
