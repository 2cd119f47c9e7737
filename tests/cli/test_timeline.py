"""What a timeline makes of what it is given."""

from typing import Any

from cli.prometheus import Sample, Span
from cli.timeline import alert_lines, join_lines, lasting, ledger_lines, process_lines


def entry(action: str, second: int, **fields: Any) -> dict[str, Any]:
    return {
        "action": action,
        "policy": "pong",
        "at": f"2026-01-02T03:{second // 60:02d}:{second % 60:02d}+00:00",
        "who": "ada",
        "why": "to see",
    } | fields


def test_loads_of_one_version_within_a_minute_are_one_line() -> None:
    loads = [entry("load", second, version=3) for second in (0, 2, 59, 61)]
    told = [line.told for line in ledger_lines(loads)]
    assert told == ["pong: version 3 live on 3 workers", "pong: version 3 live"]


def test_evidence_is_told_only_where_its_verdict_is_new() -> None:
    verdicts = ["undecided", "undecided", "roll_back", "roll_back", "undecided"]
    entries = [
        entry("evidence", second, details={"verdict": verdict}, why=f"{second} blocks")
        for second, verdict in enumerate(verdicts)
    ]
    told = [line.told for line in ledger_lines(entries)]
    assert told == ["pong: verdict roll_back: 2 blocks", "pong: verdict undecided: 4 blocks"]


def test_a_change_says_who_why_and_what_to_type() -> None:
    stage = entry("stage", 0, version=4, details={"stage": 2})
    ended = entry("abort", 1, version=4, details={"outcome": "rolled_back"})
    lines = ledger_lines([stage, ended, entry("pin", 2), entry("unheard_of", 3)])
    assert [line.told for line in lines] == [
        "pong: canary to stage 2, by ada: to see",
        "pong: canary ended, rolled back, by ada: to see",
        "pong: pinned to the heuristic, by ada: to see",
        "pong: unheard_of, by ada: to see",
    ]
    assert lines[1].look == "dqn canary pong"
    assert lines[2].look.startswith("dqn unpin pong")


def test_an_alert_is_told_as_it_begins_and_as_it_ends() -> None:
    labels = {
        "alertname": "RewardLow",
        "policy": "pong",
        "variant": "stable",
        "severity": "warning",
    }
    spans = [Span(labels, 100.0, 3800.0), Span(labels, 5000.0, None)]
    lines = list(alert_lines(spans, {"RewardLow": "https://wiki/low"}))
    assert [(line.at, line.kind, line.told) for line in lines] == [
        (100.0, "ALERT", "warning RewardLow (pong, stable)"),
        (3800.0, "over", "RewardLow (pong, stable), after 1 h 1 min"),
        (5000.0, "ALERT", "warning RewardLow (pong, stable)"),
    ]
    assert lines[0].look == "https://wiki/low"
    assert next(alert_lines(spans, {})).look == "docs/runbook.md#rewardlow"


def test_the_join_ratio_is_told_where_it_crosses_nine_in_ten() -> None:
    samples = [Sample(float(at), value) for at, value in enumerate((0.95, 0.9, 0.89, 0.5, 0.91))]
    told = [(line.at, line.told) for line in join_lines({"pong": samples})]
    assert told == [
        (2.0, "pong: join ratio fell to 0.89"),
        (4.0, "pong: join ratio is back at 0.91"),
    ]


def test_a_start_after_a_run_without_an_end_sends_to_the_kernel() -> None:
    events = [
        {"at": 1.0, "what": "started", "told": "release 1.2"},
        {
            "at": 2.0,
            "what": "started",
            "told": "release 1.2; the run before it ended without a word",
        },
        {"at": 3.0, "what": "changed", "told": "workers: 1 -> 2"},
    ]
    lines = list(process_lines(events))
    assert [line.kind for line in lines] == ["process", "process", "config"]
    assert lines[0].look == ""
    assert "memory" in lines[1].look


def test_a_length_of_time_has_its_two_largest_units() -> None:
    assert [lasting(each) for each in (59.4, 61, 3599.6, 90_061)] == [
        "59 s", "1 min 1 s", "1 h 0 min", "25 h 1 min",
    ]  # fmt: skip
