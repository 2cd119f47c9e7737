"""What a sweep varies, as its command line says it."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from training.config import TrainingConfig


class Range(NamedTuple):
    """Values between two numbers."""

    low: float
    high: float
    log: bool
    is_integer: bool


class Choices(NamedTuple):
    """Values of a list."""

    values: tuple[bool | int | float | str, ...]


Space = dict[str, Range | Choices]
"""What may be varied, by the name of the setting."""


def parse_space(varied: Sequence[str]) -> Space:
    """Read `--vary`.

    Raises:
        ValueError: A setting does not exist, is there twice, or has no values.
    """
    space: Space = {}
    for text in varied:
        name, _, values = text.partition("=")
        name = name.replace("-", "_")
        if name not in TrainingConfig.model_fields or name in space:
            raise ValueError(f"--vary {text}: {name!r} is not one more setting of dqn train")
        space[name] = _parse_values(text, values)
    return space


def _parse_values(text: str, values: str) -> Range | Choices:
    low, colon, rest = values.partition(":")
    if not colon:
        choices = tuple(_parse_value(value) for value in values.split("/") if value)
        if not choices:
            raise ValueError(f"--vary {text}: no values")
        return Choices(choices)
    high, _, log = rest.partition(":")
    ends = (_parse_value(low), _parse_value(high))
    if log not in ("", "log") or not all(isinstance(end, int | float) for end in ends):
        raise ValueError(f"--vary {text}: a range is low:high or low:high:log")
    found = Range(float(low), float(high), log == "log", all(isinstance(end, int) for end in ends))
    if not found.low < found.high:
        raise ValueError(f"--vary {text}: {low} is not below {high}")
    return found


def _parse_value(text: str) -> bool | int | float | str:
    try:
        value: bool | int | float | str = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value
