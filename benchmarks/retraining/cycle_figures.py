"""What twenty cycles in a row are held to."""

from collections.abc import Sequence
from itertools import pairwise
from math import hypot
from statistics import median
from typing import Final

from benchmarks.report import Figure
from benchmarks.retraining.cycles import CycleFound
from benchmarks.retraining.poles import EPISODE_STEPS

WORST_STEP: Final = -3.0
"""Standard errors of a fall: of twenty honest cycles one in forty has a greater one by chance."""
TOLERATED_SHARE: Final = 0.02
"""Of the range of returns, that a promoted version may truly be worse by."""

_ENDS: Final = {"promoted": "promote", "rolled_back": "abort", "undecided": "abort"}


def cycle_figures(found: Sequence[CycleFound]) -> list[Figure]:
    """All figures of a drill, each held against its goal."""
    steps = [_step(before, after) for before, after in pairwise(found)]
    promotions = [each.change for each in found if each.stable_after != each.stable_before]
    rows = sum(sum(each.rows.values()) for each in found)
    by_model = sum(each.rows.get("model", 0) for each in found)
    name = f"{len(found)} in a row"
    return [
        Figure.at_least(
            f"{name}, the greatest fall of the agents' return from one to the next",
            min(steps, default=0.0),
            "standard errors",
            WORST_STEP,
        ),
        Figure.at_most(
            f"{name}, promotions of a version that is truly worse by 2 % of the range",
            sum(each < -TOLERATED_SHARE * EPISODE_STEPS for each in promotions),
            "promotions",
            0,
        ),
        Figure.at_most(
            f"{name}, requests that failed",
            sum(each.failed_requests for each in found),
            f"of {rows:,} rows",
            0,
        ),
        Figure.at_most(
            f"{name}, those whose report or ledger lacks a part of the story",
            sum(not is_told(each) for each in found),
            "cycles",
            0,
        ),
        Figure.at_most(
            f"{name}, trials that a person had to end",
            sum(each.trial == "undecided" for each in found),
            "trials",
            0,
        ),
        Figure(f"{name}, promotions", len(promotions), "promotions"),
        Figure(
            f"{name}, the worst promotion's change of the true return",
            min(promotions, default=0.0),
            f"return, of {EPISODE_STEPS}",
        ),
        Figure("true return at the end", found[-1].true_return, "return"),
        Figure("share of rows that the model answered", by_model / max(rows, 1), "share"),
        *(
            Figure(f"{_ending(each)}, log {each.fault}", each.number, "number of the cycle")
            for each in found
            if each.fault is not None
        ),
        Figure("CPU time of a cycle, median", median(_cpu(found)), "seconds"),
        Figure("CPU time of all cycles", sum(_cpu(found)), "seconds"),
        Figure("wall time", sum(each.wall_seconds for each in found), "seconds"),
    ]


def is_told(found: CycleFound) -> bool:
    """Whether a cycle's report is there, and the ledger has what was done by it and no more."""
    if not found.has_report or found.ledger[:1] != ["retrain"]:
        return False
    expected = ["retrain"]
    if found.outcome in ("canary", "shadow"):
        expected += ["register", "shadow"]
    if found.outcome == "canary":
        # Its looking on is ended as its trial begins.
        expected += ["shadow", "canary", _ENDS.get(found.trial or "", "")]
    return found.ledger == expected


def _step(before: CycleFound, after: CycleFound) -> float:
    """Change of the agents' mean return, in standard errors of it."""
    error = hypot(before.live_standard_error, after.live_standard_error)
    return (after.live_return - before.live_return) / max(error, 1e-9)


def _ending(found: CycleFound) -> str:
    return found.outcome if found.trial is None else f"{found.outcome}, {found.trial}"


def _cpu(found: Sequence[CycleFound]) -> list[float]:
    return [each.cpu_seconds for each in found]
