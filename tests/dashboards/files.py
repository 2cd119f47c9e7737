"""Where the dashboards' files lie, and what they say, as tests read them."""

import json
import re
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from recorder.metrics import RecorderMetrics
from recorder.reward_health_metrics import HealthMetrics
from recorder.rollout_metrics import RolloutMetrics
from retraining.metrics import RetrainingMetrics
from service.metrics import exported_names

ROOT: Final = Path(__file__).parents[2]
PROMETHEUS: Final = ROOT / "dashboards" / "prometheus"
RULES: Final = tuple(sorted((PROMETHEUS / "rules").glob("*.yml")))
BOARDS: Final = tuple(sorted((ROOT / "dashboards" / "grafana" / "dashboards").glob("*.json")))

# A metric's name, outside of strings; with a colon it is a recording's.
_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_STRING: Final = re.compile(r'"[^"]*"')


class PanelQuery(NamedTuple):
    """One target of one panel."""

    panel: str
    expr: str


def rules(kind: str) -> list[dict[str, Any]]:
    """The rules that are an `alert`, or a `record`."""
    return [rule for group in rule_groups() for rule in group["rules"] if kind in rule]


def rule_groups() -> list[dict[str, Any]]:
    """Every group of every file."""
    return [group for path in RULES for group in read_yaml(path)["groups"]]


def panels() -> list[dict[str, Any]]:
    """The panels of all dashboards, without titles of rows."""
    return [
        panel
        for path in BOARDS
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]
        if panel["type"] != "row"
    ]


def panel_queries() -> list[PanelQuery]:
    """Every query of every panel."""
    return [
        PanelQuery(panel["title"], target["expr"])
        for panel in panels()
        for target in panel["targets"]
    ]


def annotation_queries() -> list[PanelQuery]:
    """What marks moments on the dashboards, once each."""
    found = {
        PanelQuery(mark["name"], mark["expr"])
        for path in BOARDS
        for mark in json.loads(path.read_text(encoding="utf-8"))["annotations"]["list"]
    }
    return sorted(found)


def exported_series() -> set[str]:
    """Every name that service, recorder or retraining exports, with the suffixes of histograms."""
    registry = RecorderMetrics().registry
    HealthMetrics(registry)
    RolloutMetrics(registry)
    names = exported_names()
    for family in (*registry.collect(), *RetrainingMetrics("any").registry.collect()):
        match family.type:
            case "histogram":
                names |= {f"{family.name}_{suffix}" for suffix in ("bucket", "count", "sum")}
            case "counter":
                names.add(f"{family.name}_total")
            case _:
                names.add(family.name)
    return names


def series_in(expr: str) -> set[str]:
    """Names of our series in PromQL: exported ones, and recordings made of them."""
    names = _NAME.findall(_STRING.sub("", expr))
    return {name for name in names if name.startswith("dqn_") or ":dqn_" in name}


def read_yaml(path: Path) -> Any:
    """A YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))
