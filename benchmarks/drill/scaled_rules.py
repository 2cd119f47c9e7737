"""The alert rules with every window and deadline thirty times shorter: a drill is no month."""

import re
from pathlib import Path
from typing import Any, Final

import yaml

FACTOR: Final = 30

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION: Final = re.compile(r"\[(\d+)([smhdw])\]|(offset )(\d+)([smhdw])")
_LEAST_WINDOW_SECONDS: Final = 5
"""Of a range: fewer than four scrapes make no rate."""
_LEAST_WAIT_SECONDS: Final = 1


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


def _scale(rule: dict[str, Any]) -> None:
    rule["expr"] = _DURATION.sub(_shorter, rule["expr"])
    if "for" in rule:
        seconds = int(rule["for"][:-1]) * _SECONDS[rule["for"][-1]]
        rule["for"] = f"{max(_LEAST_WAIT_SECONDS, seconds // FACTOR)}s"


def _shorter(match: re.Match[str]) -> str:
    if match[3]:
        return f"offset {int(match[4]) * _SECONDS[match[5]] // FACTOR}s"
    seconds = int(match[1]) * _SECONDS[match[2]] // FACTOR
    return f"[{max(_LEAST_WINDOW_SECONDS, seconds)}s]"
