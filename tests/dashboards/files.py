"""Where the dashboards' files lie, and what they say, as tests read them."""

import json
import re
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

ROOT: Final = Path(__file__).parents[2]
PROMETHEUS: Final = ROOT / "dashboards" / "prometheus"
RULES: Final = PROMETHEUS / "rules" / "dqn.yml"
OVERVIEW: Final = ROOT / "dashboards" / "grafana" / "dashboards" / "overview.json"

# A metric's name, outside of strings; with a colon it is a recording's.
_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_STRING: Final = re.compile(r'"[^"]*"')


class PanelQuery(NamedTuple):
    """One target of one panel."""

    panel: str
    expr: str


def rules(kind: str) -> list[dict[str, Any]]:
    """The rules that are an `alert`, or a `record`."""
    groups = read_yaml(RULES)["groups"]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def panels() -> list[dict[str, Any]]:
    """The overview's panels without its row titles."""
    dashboard = json.loads(OVERVIEW.read_text(encoding="utf-8"))
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def panel_queries() -> list[PanelQuery]:
    """Every query of every panel."""
    return [
        PanelQuery(panel["title"], target["expr"])
        for panel in panels()
        for target in panel["targets"]
    ]


def series_in(expr: str) -> set[str]:
    """Names of our series in PromQL: exported ones, and recordings made of them."""
    names = _NAME.findall(_STRING.sub("", expr))
    return {name for name in names if name.startswith("dqn_") or ":dqn_" in name}


def read_yaml(path: Path) -> Any:
    """A YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))
