"""Rules that are wrong in one place."""

import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, Final, NamedTuple

_TOKEN: Final = re.compile(
    r'"[^"]*"'  # a label's value
    r"|\[[^\]]*\]"  # a window
    r"|offset \w+"
    r"|[a-zA-Z_:][a-zA-Z0-9_:]*"
    r"|>=|<=|==|!=|>|<"
    r"|\d+(?:\.\d+)?"
)
_SWAPS: Final = {
    ">": (">=", "<"),
    ">=": (">", "<"),
    "<": ("<=", ">"),
    "<=": ("<", ">"),
    "==": ("!=",),
    "!=": ("==",),
    "and": ("or",),
    "or": ("and",),
}
_LABELS: Final = re.compile(r"\{[^}]*\}")


class Mutant(NamedTuple):
    """One change to one rule of a file."""

    rule: str
    change: str
    document: dict[str, Any]
    """The whole file with it."""


def mutants_of(document: dict[str, Any]) -> Iterator[Mutant]:
    """Comparisons turned or shifted, numbers moved by a tenth, `and` for `or`, deadlines moved."""
    for group_number, group in enumerate(document["groups"]):
        for rule_number, rule in enumerate(group["rules"]):
            for change, field, value in _changes(rule):
                changed = deepcopy(document)
                target = changed["groups"][group_number]["rules"][rule_number]
                if value is None:
                    del target[field]
                else:
                    target[field] = value
                yield Mutant(rule.get("alert") or rule["record"], change, changed)


def _changes(rule: dict[str, Any]) -> Iterator[tuple[str, str, str | None]]:
    expr = rule["expr"]
    # A quantile's share and a label's matcher are no thresholds.
    labels = [match.span() for match in _LABELS.finditer(expr)]
    for match in _TOKEN.finditer(expr):
        if any(begin <= match.start() < end for begin, end in labels):
            continue
        for instead in _instead_of(match.group()):
            text = expr[: match.start()] + instead + expr[match.end() :]
            place = expr[max(0, match.start() - 20) : match.end() + 12].replace("\n", " ")
            yield f"{match.group()} -> {instead} at …{place}…", "expr", text
    if "for" in rule:
        yield f"for {rule['for']} -> twice", "for", _twice(rule["for"])
        yield f"for {rule['for']} -> none", "for", None


def _instead_of(token: str) -> tuple[str, ...]:
    if token[0].isdigit():
        number = float(token)
        return (f"{1.1 * number:.6g}", f"{0.9 * number:.6g}") if number else ("1",)
    return _SWAPS.get(token, ())


def _twice(duration: str) -> str:
    return f"{2 * int(duration[:-1])}{duration[-1]}"
