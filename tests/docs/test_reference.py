"""The reference is what the code says, and the code is what the reference says."""

import re

import pytest

from docs.generate import command_line
from docs.generate.__main__ import FOLDER, PAGES, text_of
from service.faces.hot import HOT_ROUTES
from service.faces.http import Route


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_current(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", command_line.COLUMNS)
    written = (FOLDER / name).read_text(encoding="utf-8")
    assert written == text_of(name), "run python -m docs.generate"


def test_nothing_else_is_there() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(PAGES)


def test_settings_tell_ranges_defaults_and_what_is_required() -> None:
    text = (FOLDER / "settings.md").read_text(encoding="utf-8")
    assert "| `port` | integer, ≥ 0, ≤ 65535 | `8000` | Port to listen on" in text
    assert "| `repository` | path | required | Folder of policies" in text
    # Of a table within a table.
    assert "| `logging.logged_share` | number, > 0, ≤ 1 | `1.0` |" in text


@pytest.mark.parametrize("route", HOT_ROUTES, ids=lambda route: route.path)
def test_calls_say_their_scope(route: Route) -> None:
    text = (FOLDER / "http.md").read_text(encoding="utf-8")
    found = re.search(rf"### `POST {re.escape(route.path)}`\n\n(.*)", text)
    assert found is not None
    assert found[1].endswith(f"Scope: `{route.scope}`.")


def test_an_operator_s_call_says_its_fields_and_scope() -> None:
    text = (FOLDER / "http.md").read_text(encoding="utf-8")
    section = text.partition("### `POST /v1/policies/{policy}/canary`")[2].partition("###")[0]
    assert "Scope: `submit`." in section
    assert "| `version` | integer (required) |" in section
    assert "| `dry_run` | boolean | Say what it would take, and change nothing. |" in section


def test_metrics_of_all_processes_have_their_labels() -> None:
    text = (FOLDER / "metrics.md").read_text(encoding="utf-8")
    for line in (
        "| `dqn_decisions_total` | counter | `policy`, `variant`, `source`, `reason` |",
        "| `dqn_episode_return` | histogram | `policy`, `variant` |",
        "| `dqn_retrain_runs_total` | counter | `policy`, `outcome` |",
    ):
        assert line in text
