import json
from pathlib import Path
from typing import Any

import pytest

from dashboards.grafana.build import FOLDER, rendered
from tests.dashboards.files import (
    BOARDS,
    PROMETHEUS,
    ROOT,
    PanelQuery,
    exported_series,
    panel_queries,
    panels,
    read_yaml,
    rules,
    series_in,
)

each_panel = pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
each_board = pytest.mark.parametrize("board", BOARDS, ids=lambda path: path.stem)
each_query = pytest.mark.parametrize("query", panel_queries(), ids=lambda query: query.panel)


def test_the_dashboards_on_disk_are_what_the_code_builds() -> None:
    found = {path: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert found == rendered(), "run python -m dashboards.grafana.build"


@each_query
def test_a_query_names_only_series_that_are_exported_or_recorded(query: PanelQuery) -> None:
    recorded = {rule["record"] for rule in rules("record")}
    assert series_in(query.expr)
    assert series_in(query.expr) <= exported_series() | recorded


@each_query
def test_a_rate_is_over_the_interval_that_grafana_chooses(query: PanelQuery) -> None:
    assert query.expr.count("[") == query.expr.count("[$__rate_interval]")
    counts_or_buckets = {name for name in series_in(query.expr) if is_cumulative(name)}
    assert not counts_or_buckets or "rate(" in query.expr or "increase(" in query.expr


@each_panel
def test_a_panel_has_a_unit_a_description_and_the_chosen_source(panel: dict[str, Any]) -> None:
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["description"].endswith(".")
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@each_panel
def test_a_panel_names_each_of_its_series(panel: dict[str, Any]) -> None:
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert panel["type"] == "stat" or all(target["legendFormat"] for target in panel["targets"])


@each_board
def test_every_dashboard_marks_what_changed_in_the_ledger_and_which_alerts_fired(
    board: Path,
) -> None:
    found = json.loads(board.read_text(encoding="utf-8"))["annotations"]["list"]
    assert {mark["name"] for mark in found} == {"Ledger", "Alerts"}
    for mark in found:
        assert mark["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert series_in(mark["expr"]) <= exported_series()
        # What is looked back at and how far apart looks are: else changes are missed, or doubled.
        assert "offset" not in mark["expr"] or f"offset {mark['step']}" in mark["expr"]


@each_board
def test_no_panel_hides_another(board: Path) -> None:
    cells = [
        (x, y)
        for panel in json.loads(board.read_text(encoding="utf-8"))["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23


def test_no_two_panels_have_one_title() -> None:
    titles = [panel["title"] for panel in panels()]
    assert len(titles) == len(set(titles))


@each_board
def test_every_variable_is_used_and_every_one_used_is_declared(board: Path) -> None:
    dashboard = json.loads(board.read_text(encoding="utf-8"))
    text = json.dumps(dashboard["panels"])
    names = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert names == {"datasource", "policy"}
    assert "${datasource}" in text
    assert '\\"$policy' in text


def test_grafana_rates_over_the_interval_at_which_prometheus_scrapes() -> None:
    provisioned = read_yaml(provisioning("datasources/prometheus.yml"))["datasources"][0]
    scraped = read_yaml(PROMETHEUS / "prometheus.yml")["global"]["scrape_interval"]
    assert provisioned["jsonData"]["timeInterval"] == scraped


def is_cumulative(name: str) -> bool:
    return name.endswith(("_total", "_bucket", "_count", "_sum"))


def provisioning(path: str) -> Path:
    return ROOT / "dashboards" / "grafana" / "provisioning" / path
