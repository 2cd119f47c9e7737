"""Every query asked of a real Prometheus that scrapes a real service with traffic and Redis."""

from collections.abc import Iterator

import pytest

from tests.dashboards.files import PanelQuery, annotation_queries, panel_queries, rules
from tests.dashboards.ring import Prometheus, Ring, operate, ring, wait_until

pytestmark = pytest.mark.slow

QUERIES = panel_queries()
# What Grafana fills in: four scrapes at least, and every policy.
_CHOSEN = {"$__rate_interval": "10s", "$policy": ".*"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ring]:
    with ring(tmp_path_factory.mktemp("ring")) as answering:
        yield answering


@pytest.fixture(scope="module")
def prometheus(whole: Ring) -> Prometheus:
    return whole.prometheus


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.panel)
def test_a_panel_shows_numbers(prometheus: Prometheus, query: PanelQuery) -> None:
    assert prometheus.wait_for_numbers(as_chosen(query.expr))


@pytest.mark.parametrize("recording", [rule["record"] for rule in rules("record")])
def test_a_recording_records(prometheus: Prometheus, recording: str) -> None:
    assert prometheus.wait_for_numbers(recording)


def test_the_glance_tells_what_the_agents_live_through(prometheus: Prometheus) -> None:
    expr_of = {query.panel: query.expr for query in QUERIES}
    share = as_chosen(expr_of["Actions from the model"])
    wait_until(lambda: prometheus.numbers(share) == [1.0], "every action from the model")
    assert prometheus.numbers('dqn_q_value_training_max{variant="stable"}') == [20.0]
    # The linear policy leans right: 3 * 0.1 + 0.06 + its bias of 0.01.
    assert prometheus.numbers('dqn_q_value_max{variant="stable"}') == [pytest.approx(0.37)]
    assert prometheus.numbers("dqn_redis_up") == [1.0, 1.0]
    returns = prometheus.numbers('dqn_episode_return_recent_mean{variant="stable"}')
    assert returns == [pytest.approx(200.0)]


def test_prometheus_evaluates_every_rule_and_only_the_watchdog_fires(
    prometheus: Prometheus,
) -> None:
    def evaluated() -> bool:
        groups = prometheus.ask("rules")["groups"]
        return all(rule["health"] == "ok" for group in groups for rule in group["rules"])

    wait_until(evaluated, "all rules evaluated without an error")
    alerts = prometheus.ask("alerts")["alerts"]
    firing = {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}
    assert firing == {"Watchdog"}


def test_a_change_in_the_ledger_is_marked_once_by_what_it_was(whole: Ring) -> None:
    (ledger,) = (each for each in annotation_queries() if "dqn_ledger_entries" in each.expr)
    marks = as_chosen(ledger.expr)
    # Grafana marks where a series is 1. A minute after the start there is a minute ago.
    wait_until(lambda: 0.0 in whole.prometheus.numbers(marks), "what the ledger held a minute ago")
    operate(whole.service, "freeze")

    def marked() -> list[str]:
        samples = whole.prometheus.ask("query", query=f"({marks}) == 1")["result"]
        return [sample["metric"]["action"] for sample in samples]

    wait_until(lambda: "freeze" in marked(), "a mark of the freeze")


def as_chosen(expr: str) -> str:
    """PromQL as Grafana would send it."""
    for variable, value in _CHOSEN.items():
        expr = expr.replace(variable, value)
    return expr
