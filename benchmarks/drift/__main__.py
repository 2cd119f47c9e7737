"""`python -m benchmarks.drift`: false alarms in a year of null traffic, and shifts that are caught.

Null traffic has columns that repeat themselves within an episode, some for its whole length. Each
month a version is made anew, with a reference measured over 100 of its own episodes, as the
exporter does; a window is 2,000 rows sampled over a quarter of an hour.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Final

import numpy as np

from benchmarks.drift.traffic import (
    EPISODE_STEPS,
    Floats,
    mixed_columns,
    sampled_rows,
    whole_episodes,
)
from benchmarks.report import Figure, print_figures, write_result
from contract.drift_reference import ColumnReference, make_columns
from service.monitoring.drift_window import TESTS, DriftWindow, TestName

_WINDOW_ROWS: Final = 2000
_WINDOWS_A_MONTH: Final = 4 * 24 * 30
_MONTHS: Final = 12
_NULL_COLUMNS: Final = 32
_EPISODES: Final = 100
_POWER_COLUMNS: Final = 128
_REFERENCE_ROWS: Final = 20_000
_SHIFT: Final = 0.2
_SLOW_SHIFT: Final = 0.1
_RUNS: Final = 100


def main(arguments: Sequence[str]) -> int:
    """Simulate, print, write; 1 if a goal is not met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a day of null traffic, 10 runs")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/drift.json")
    options = parser.parse_args(arguments)
    windows, runs = (8, 10) if options.quick else (_WINDOWS_A_MONTH, _RUNS)
    figures = [*false_alarms(windows), *power(runs), cost()]
    print_figures("drift", figures)
    if options.write:
        command = ["python", "-m", "benchmarks.drift", *arguments]
        print("written to", write_result("drift", command, ("numpy",), figures))
    return 0 if all(figure.met is not False for figure in figures) else 1


def false_alarms(windows_a_month: int) -> list[Figure]:
    """Times that a test began to alarm where nothing had changed."""
    rng = np.random.default_rng(20)
    columns = mixed_columns(_NULL_COLUMNS)
    began = dict.fromkeys(TESTS, 0)
    for _ in range(_MONTHS):
        lengths = np.full(_EPISODES, EPISODE_STEPS)
        reference = make_columns(whole_episodes(columns, _EPISODES, rng), lengths)
        window = DriftWindow(reference, _NULL_COLUMNS, _WINDOW_ROWS)
        alarming = dict.fromkeys(TESTS, False)
        for _ in range(windows_a_month):
            window.add(sampled_rows(columns, _WINDOW_ROWS, rng))
            for test, scores in window.close().items():
                is_beyond = bool((scores.ratios >= 1).any())
                began[test] += is_beyond and not alarming[test]
                alarming[test] = is_beyond
    months = _MONTHS * windows_a_month / _WINDOWS_A_MONTH
    what = f"{months:.3g} months, {_NULL_COLUMNS} columns"
    return [
        Figure.at_most(
            f"false alarms of all drift tests, {what}", sum(began.values()) / months, "a month", 1
        ),
        *(Figure(f"false alarms of {test}, {what}", began[test], "alarms") for test in TESTS),
    ]


def power(runs: int) -> list[Figure]:
    """How often one shifted column in 128 is told in the first full window, and by which test."""
    rng = np.random.default_rng(21)
    caught = dict.fromkeys(TESTS, 0)
    caught_by_any, named, windows_to_slow = 0, 0, []
    for _ in range(runs):
        reference = _independent_reference(rng)
        shifted = int(rng.integers(_POWER_COLUMNS))
        window = DriftWindow(reference, _POWER_COLUMNS, _WINDOW_ROWS)
        window.add(_rows(rng, shifted, _SHIFT))
        ratios = {test: scores.ratios for test, scores in window.close().items()}
        for test in TESTS:
            caught[test] += bool(ratios[test][shifted] >= 1)
        caught_by_any += any(ratios[test][shifted] >= 1 for test in TESTS)
        named += bool(max(ratios.values(), key=np.max).argmax() == shifted)
        windows_to_slow.append(_windows_until_told(reference, shifted, "trend", rng))
    what = f"of {runs} runs, one of {_POWER_COLUMNS} columns shifted by {_SHIFT:g} sd"
    return [
        Figure.at_least(
            f"caught in the first window of {_WINDOW_ROWS:,} rows, {what}",
            caught_by_any,
            "runs",
            0.95 * runs,
        ),
        *(Figure(f"caught by {test}, {what}", caught[test], "runs") for test in TESTS),
        Figure.at_least(f"the shifted column named first, {what}", named, "runs", 0.95 * runs),
        Figure(
            f"windows until a shift of {_SLOW_SHIFT:g} sd is told by trend, median",
            float(np.median(windows_to_slow)),
            "windows",
        ),
    ]


def cost() -> Figure:
    """CPU time of one sampled row: counted in hundreds, with its share of judging the window."""
    rng = np.random.default_rng(22)
    window = DriftWindow(_independent_reference(rng), _POWER_COLUMNS, _WINDOW_ROWS)
    rows = rng.standard_normal((100, _POWER_COLUMNS), dtype=np.float32)
    began = time.process_time()
    for _ in range(_WINDOW_ROWS // len(rows)):
        window.add(rows)
    window.close()
    spent = time.process_time() - began
    return Figure(
        f"CPU time of one sampled row of {_POWER_COLUMNS} columns, at most {20 / 9:.2g} a second",
        spent / _WINDOW_ROWS * 1e6,
        "microseconds",
    )


def _windows_until_told(
    reference: tuple[ColumnReference, ...], shifted: int, test: TestName, rng: np.random.Generator
) -> int:
    window = DriftWindow(reference, _POWER_COLUMNS, _WINDOW_ROWS)
    for number in range(1, 101):
        window.add(_rows(rng, shifted, _SLOW_SHIFT))
        if window.close()[test].ratios[shifted] >= 1:
            return number
    return 101


def _independent_reference(rng: np.random.Generator) -> tuple[ColumnReference, ...]:
    rows = rng.standard_normal((_REFERENCE_ROWS, _POWER_COLUMNS), dtype=np.float32)
    return make_columns(rows, np.ones(_REFERENCE_ROWS, dtype=np.int64))


def _rows(rng: np.random.Generator, shifted: int, shift: float) -> Floats:
    rows = rng.standard_normal((_WINDOW_ROWS, _POWER_COLUMNS), dtype=np.float32)
    rows[:, shifted] += shift
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
