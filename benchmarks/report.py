"""How a benchmark tells its figures: a table for people, a result file for the repository."""

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.table import Table

RESULTS_FOLDER = Path(__file__).parent / "results"

_PLAIN_WIDTH = 180


@dataclass(frozen=True)
class Figure:
    """One measured number and what it is held against."""

    figure: str
    """What was measured."""

    value: float
    unit: str

    goal: str | None = None
    """What the value should be, such as `at least 495`."""

    rival: str | None = None
    """Who else does it, and how well."""

    ratio: float | None = None
    """This project over the rival, so that more than 1 is better."""

    met: bool | None = None
    """Whether the goal is met; `None` where there is no goal."""

    @classmethod
    def at_least(cls, figure: str, value: float, unit: str, goal: float) -> Self:
        """A figure that is good where it is large."""
        return cls(figure, value, unit, f"at least {goal:g}", met=bool(value >= goal))

    @classmethod
    def at_most(cls, figure: str, value: float, unit: str, goal: float) -> Self:
        """A figure that is good where it is small."""
        return cls(figure, value, unit, f"at most {goal:g}", met=bool(value <= goal))


def print_figures(title: str, figures: Sequence[Figure]) -> None:
    """Print a table, goals that are not met marked."""
    table = Table("figure", "value", "unit", "goal", "met", "rival", "ratio", title=title)
    for figure in figures:
        table.add_row(
            figure.figure,
            f"{figure.value:,.4g}",
            figure.unit,
            figure.goal or "",
            {True: "yes", False: "[red]NO[/red]", None: ""}[figure.met],
            figure.rival or "",
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
        )
    console = Console()
    # Off a terminal rich takes 80 columns, too few for a table of seven.
    console.width = console.width if console.is_terminal else _PLAIN_WIDTH
    console.print(table)


def write_result(
    name: str, command: Sequence[str], packages: Sequence[str], figures: Sequence[Figure]
) -> Path:
    """Write `results/<name>.json`, which the repository keeps.

    Args:
        name: Of the benchmark.
        command: What was run, without the interpreter's path.
        packages: Distributions whose versions the figures depend on.
        figures: What was found.
    """
    path = RESULTS_FOLDER / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": describe_machine(),
        "versions": {"python": platform.python_version()}
        | {package: _version(package) for package in packages},
        "command": " ".join(command),
        "figures": [asdict(figure) for figure in figures],
    }
    path.write_text(json.dumps(result, indent=2) + "\n")
    return path


def read_figures(name: str) -> list[Figure]:
    """What `results/<name>.json` holds; nothing where there is none."""
    path = RESULTS_FOLDER / f"{name}.json"
    if not path.exists():
        return []
    return [Figure(**each) for each in json.loads(path.read_text())["figures"]]


def merged(
    written: Sequence[Figure], title: str, measured: Sequence[Figure], order: Sequence[str]
) -> list[Figure]:
    """What is written, with the figures whose names begin with a title measured anew.

    Args:
        written: Of earlier runs; each name begins with one of `order`.
        title: Of the part that was measured.
        measured: What takes its place.
        order: How the names of each part begin, in the order in which parts are kept.
    """
    others = [each for each in written if not each.figure.startswith(title)]

    def place(figure: Figure) -> int:
        return next(i for i, begins in enumerate(order) if figure.figure.startswith(begins))

    return sorted([*others, *measured], key=place)


def describe_machine() -> str:
    """Processor, cores that this process may use, memory and system, in words."""
    return (
        f"{_num_cores()} cores of {_processor()}, {_memory_gib():.0f} GiB, {platform.system()} "
        f"{platform.machine()}"
    )


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else (os.cpu_count() or 1)


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
