"""`python -m benchmarks.cost`: server CPU per request with a part on and off, in turns.

`monitoring` is Q-value health, drift and being scraped every 15 s; `metrics` is that and every
series of serving, shown without a goal; `log` is the decision log. One real server has the part's
methods taken out and put back (`benchmarks.cost.without`), in turns of a second at the same
moderate rate; each pair is of a server of its own.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from benchmarks.cost.paced import run_paced
from benchmarks.cost.pairs import NUM_PAIRS, Bound, upper_bound
from benchmarks.cost.servers import Running, one_row, scraped, server_with, write_armed_policy
from benchmarks.report import Figure, merged, print_figures, read_figures, write_result
from benchmarks.serving.load import Load
from benchmarks.serving.rivals.wire import Request

CPU_GOALS: Final = {"monitoring": 0.02, "metrics": None, "log": 0.05}
_PAIRS: Final = {"monitoring": 10, "metrics": 10, "log": 20}
"""The log's share is the nearest to its goal, and takes more to be told from it."""
P99_GOALS_MS: Final = {"monitoring": None, "metrics": None, "log": 0.3}
_COMMAND: Final = ("python", "-m", "benchmarks.cost", "--write")
_WARM_UP_SECONDS: Final = 3.0
_TURNS: Final = 12
"""Of each side in a pair; who goes first changes from turn to turn."""


class Pair(NamedTuple):
    """The same load with a part and without it, in turns: machines drift within seconds."""

    on: list[Load]
    off: list[Load]

    @property
    def cpu_share(self) -> float:
        """What the part adds to the CPU time of a request, of what it is without."""
        return _cpu_seconds(self.on) / _cpu_seconds(self.off) - 1

    @property
    def p99_ms(self) -> float:
        """What it adds to the slowest hundredth."""
        on, off = (median(load.p99_seconds for load in loads) for loads in self)
        return 1000 * (on - off)


def _cpu_seconds(loads: Sequence[Load]) -> float:
    """Of a request, in the median turn: a neighbour of the machine is busy in some of them."""
    return median(load.cpu_seconds_per_request for load in loads)


def main(arguments: Sequence[str]) -> int:
    """Measure each part; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three pairs of short turns")
    parser.add_argument("--write", action="store_true", help="keep each part's figures")
    parser.add_argument("--what", nargs="*", choices=sorted(CPU_GOALS), help="only these parts")
    parser.add_argument("--pairs", type=int, choices=NUM_PAIRS, help="of each part")
    parser.add_argument("--seconds", type=float, default=1.0, help="of one turn")
    options = parser.parse_args(arguments)
    if options.quick:
        options.pairs, options.seconds = 3, 1.0
    figures: list[Figure] = []
    for part in options.what or CPU_GOALS:
        measured = _figures(part, _measure(part, options.pairs or _PAIRS[part], options.seconds))
        figures += measured
        if options.write:
            order = [f"{each}: " for each in CPU_GOALS]
            together = merged(read_figures("cost"), f"{part}: ", measured, order)
            print("written to", write_result("cost", _COMMAND, ("numpy", "onnxruntime"), together))
    print_figures("what a part costs a request", figures)
    return 0 if all(figure.met is not False for figure in figures) else 1


def _measure(part: str, num_pairs: int, seconds: float) -> list[Pair]:
    pairs = []
    for number in range(num_pairs):
        pairs.append(_measure_pair(part, seconds))
        print(f"{part}, pair {number + 1}: {pairs[-1].cpu_share:+.2%} CPU", flush=True)
    return pairs


def _measure_pair(part: str, seconds: float) -> Pair:
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        write_armed_policy(data)
        with server_with(part, data) as running:
            request = one_row()
            run_paced(running.url, request, _WARM_UP_SECONDS, running.pid)
            pair = Pair([], [])
            for turn in range(_TURNS):
                for is_on in (True, False) if turn % 2 else (False, True):
                    running.switch(is_on=is_on)
                    # About as often as Prometheus does.
                    is_scraped = is_on and part != "log" and turn == 0
                    load = _load(running, request, seconds, is_scraped=is_scraped)
                    (pair.on if is_on else pair.off).append(load)
            return pair


def _load(running: Running, request: Request, seconds: float, *, is_scraped: bool) -> Load:
    with scraped(running.url, seconds / 2) if is_scraped else nullcontext():
        return run_paced(running.url, request, seconds, running.pid)


def _figures(part: str, pairs: Sequence[Pair]) -> list[Figure]:
    cpu = upper_bound([pair.cpu_share for pair in pairs])
    p99 = upper_bound([pair.p99_ms for pair in pairs])
    loads = [load for pair in pairs for load in (*pair.on, *pair.off)]
    off = min(load.cpu_seconds_per_request for pair in pairs for load in pair.off)
    rate = min(load.requests_per_second for load in loads)
    failures = sum(load.failures for load in loads)
    return [
        *_bounded(f"{part}: CPU of a request", cpu, "share", CPU_GOALS[part]),
        *_bounded(f"{part}: p99", p99, "ms", P99_GOALS_MS[part]),
        Figure(f"{part}: CPU of a request without it, at least", 1e6 * off, "us"),
        Figure(f"{part}: rate, at least", rate, "1/s"),
        Figure.at_most(f"{part}: requests that failed", failures, "requests", 0),
    ]


def _bounded(name: str, bound: Bound, unit: str, goal: float | None) -> list[Figure]:
    upper = f"{name} added, at most with 95 % confidence"
    return [
        Figure(f"{name} added, mean", bound.mean, unit),
        Figure(upper, bound.upper, unit)
        if goal is None
        else Figure.at_most(upper, bound.upper, unit, goal),
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
