import re
from itertools import chain
from typing import Any

import pytest

from cli.__main__ import VERBS
from tests.dashboards.files import (
    PROMETHEUS,
    ROOT,
    exported_series,
    panels,
    read_yaml,
    rule_groups,
    rules,
    series_in,
)

ALERTS = rules("alert")
RECORDINGS = rules("record")
BLOCKS = [
    block
    for path in sorted((PROMETHEUS / "tests").glob("*.yml"))
    for block in read_yaml(path)["tests"]
]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")


def name_of(rule: dict[str, Any]) -> str:
    return str(rule.get("alert") or rule["record"])


each_alert = pytest.mark.parametrize("alert", ALERTS, ids=name_of)


@pytest.mark.parametrize("rule", [*ALERTS, *RECORDINGS], ids=name_of)
def test_a_rule_names_only_series_that_are_exported(rule: dict[str, Any]) -> None:
    recorded = {recording["record"] for recording in RECORDINGS}
    assert series_in(rule["expr"]) <= exported_series() | recorded


@each_alert
def test_an_alert_watches_something_of_ours_or_is_the_watchdog(alert: dict[str, Any]) -> None:
    is_watching = bool(series_in(alert["expr"])) or alert["expr"] == 'up{job="dqn"} == 0'
    assert is_watching != (alert["alert"] == "Watchdog")


@each_alert
def test_an_alert_says_what_it_means_and_whom_it_wakes(alert: dict[str, Any]) -> None:
    assert {"summary", "description", "runbook_url"} == set(alert["annotations"])
    assert all(text.strip() for text in alert["annotations"].values())
    severities = {"none"} if alert["alert"] == "Watchdog" else {"warning", "critical"}
    assert alert["labels"]["severity"] in severities


@each_alert
def test_an_alert_links_to_its_own_section_of_the_runbook(alert: dict[str, Any]) -> None:
    name = alert["alert"]
    assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
    section = sections()[name]
    assert all(f"**{part}.**" in section for part in ("Means", "Look at", "Type"))
    assert "```sh" in section or f"As for [{name[:3]}" in section or "as in [" in section


@each_alert
def test_an_alert_is_tried_both_silent_and_firing(alert: dict[str, Any]) -> None:
    tried = [
        check
        for block in BLOCKS
        for check in block.get("alert_rule_test", [])
        if check["alertname"] == alert["alert"]
    ]
    assert any(check["exp_alerts"] for check in tried)
    # Nothing can silence the watchdog.
    assert any(not check["exp_alerts"] for check in tried) != (alert["alert"] == "Watchdog")


@pytest.mark.parametrize("recording", RECORDINGS, ids=name_of)
def test_a_recording_has_its_value_tried(recording: dict[str, Any]) -> None:
    tried = [check["expr"] for block in BLOCKS for check in block.get("promql_expr_test", [])]
    assert recording["record"] in set(chain.from_iterable(map(series_in, tried)))


@pytest.mark.parametrize("recording", RECORDINGS, ids=name_of)
def test_a_recording_stands_before_the_alerts_of_its_group(recording: dict[str, Any]) -> None:
    name = recording["record"]
    for group in rule_groups():
        names = [name_of(rule) for rule in group["rules"]]
        users = [name_of(rule) for rule in group["rules"] if name in series_in(rule["expr"])]
        # In another group it would be read as the evaluation before left it.
        assert not users or name in names
        assert all(names.index(name) < names.index(user) for user in users)


def test_no_two_groups_have_one_name() -> None:
    # On Kubernetes all files are one resource, whose groups must differ.
    names = [group["name"] for group in rule_groups()]
    assert len(names) == len(set(names))


def test_the_runbook_has_no_section_without_an_alert() -> None:
    assert set(sections()) == {alert["alert"] for alert in ALERTS}


def test_the_runbook_types_only_verbs_that_there_are() -> None:
    typed = set(re.findall(r"^dqn (\w+)", RUNBOOK, flags=re.MULTILINE))
    assert typed
    assert typed <= set(VERBS)


def test_the_runbook_sends_readers_to_panels_that_exist() -> None:
    named = re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", RUNBOOK)
    # Prometheus's own pages have an arrow.
    ours = {name for name in named if "→" not in name}
    assert len(ours) > 5
    assert ours <= {panel["title"] for panel in panels()}


def sections() -> dict[str, str]:
    """The runbook's text by heading."""
    parts = re.split(r"^## (\w+)\n", RUNBOOK, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))
