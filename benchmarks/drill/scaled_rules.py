"""The alert rules with every window and deadline thirty times shorter: a drill is no month."""

import re
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

FACTOR: Final = 30

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION: Final = re.compile(r"\[(\d+)([smhdw])\]|(offset )(\d+)([smhdw])")
_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LEAST_WINDOW_SECONDS: Final = 5
"""Of a range: fewer than four scrapes make no rate."""
_LEAST_WAIT_SECONDS: Final = 1


class AlertRule(NamedTuple):
    """An alert as Prometheus is asked about it afterwards."""

    expr: str
    """Recordings are replaced by what they record: they lag behind by an evaluation."""
    wait_seconds: int
    """Its `for`."""


def write_scaled(source: Path, target: Path) -> list[Path]:
    """Write each file of rules anew; thresholds and operators are as they are."""
    written = []
    for path in sorted(source.glob("*.yml")):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        for group in document["groups"]:
            for rule in group["rules"]:
                _scale(rule)
        written.append(target / path.name)
        written[-1].write_text(yaml.safe_dump(document), encoding="utf-8")
    return written


def read_alerts(paths: list[Path]) -> dict[str, AlertRule]:
    """The alerts of files of rules, by name.

    Recordings with labels of their own (the SLOs') stay as they are: no text can stand for them.
    """
    rules = [
        rule
        for path in paths
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]
    recorded: dict[str, str] = {}
    for rule in rules:
        if "record" in rule and "labels" not in rule:
            recorded[rule["record"]] = f"({_inlined(rule['expr'], recorded)})"
    return {
        rule["alert"]: AlertRule(_inlined(rule["expr"], recorded), _seconds(rule.get("for", "0s")))
        for rule in rules
        if "alert" in rule
    }


def _inlined(expr: str, recorded: dict[str, str]) -> str:
    return _NAME.sub(lambda match: recorded.get(match[0], match[0]), expr)


def _scale(rule: dict[str, Any]) -> None:
    rule["expr"] = _DURATION.sub(_shorter, rule["expr"])
    if "for" in rule:
        rule["for"] = f"{max(_LEAST_WAIT_SECONDS, _seconds(rule['for']) // FACTOR)}s"


def _shorter(match: re.Match[str]) -> str:
    if match[3]:
        return f"offset {int(match[4]) * _SECONDS[match[5]] // FACTOR}s"
    seconds = int(match[1]) * _SECONDS[match[2]] // FACTOR
    return f"[{max(_LEAST_WINDOW_SECONDS, seconds)}s]"


def _seconds(duration: str) -> int:
    return int(duration[:-1]) * _SECONDS[duration[-1]]
