from contract.ledger import Entry
from service.metrics import Metrics
from service.rollout.ledger_gauges import LedgerGauges


def entry(action: str, policy: str = "p") -> Entry:
    return Entry(action=action, policy=policy, version=None, who="w", why="y")


def count(metrics: Metrics, policy: str, action: str) -> float:
    return metrics.counter("dqn_ledger_entries", policy, action).value


def test_an_entry_is_counted_once_however_often_the_ledger_is_shown() -> None:
    metrics, entries = Metrics(), [entry("pin"), entry("pin", policy="q")]
    gauges = LedgerGauges(metrics)
    gauges.show(["p", "q"], entries)
    gauges.show(["p", "q"], [*entries, entry("pin"), entry("unpin")])
    assert count(metrics, "p", "pin") == 2
    assert count(metrics, "p", "unpin") == 1
    assert count(metrics, "q", "pin") == 1


def test_what_never_happened_stands_at_nothing_and_what_is_no_news_is_not_told() -> None:
    metrics = Metrics()
    LedgerGauges(metrics).show(["p"], [entry("evidence")])
    found = {
        (sample.labels["action"], sample.value)
        for family in metrics.collect()
        for sample in family.samples
        if family.name == "dqn_ledger_entries"
    }
    assert ("freeze", 0.0) in found
    assert all(value == 0.0 for _, value in found)
    assert "evidence" not in {action for action, _ in found}


def test_a_ledger_that_was_put_back_is_counted_anew() -> None:
    metrics = Metrics()
    gauges = LedgerGauges(metrics)
    gauges.show(["p"], [entry("pin"), entry("pin"), entry("pin")])
    gauges.show(["p"], [entry("pin")])
    assert count(metrics, "p", "pin") == 1
