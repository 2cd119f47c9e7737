"""`python -m benchmarks.training`: this project beside the libraries people train with.

The same environments, networks and budgets, each library in an environment of its own, one
thread; CPU time, because wall time on a shared machine is the neighbours'. With `--write` each part
that is measured takes the place of what the result file said of it, as soon as it is done.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.report import Figure, merged, print_figures, read_figures, write_result
from benchmarks.training.overestimation import bias_figures, ratio_figures
from benchmarks.training.pong import measure_pong, measure_two_cores
from benchmarks.training.processes import ProgramError
from benchmarks.training.replay import measure_replay
from benchmarks.training.rivals.environments import LIBRARIES, InstallError, Library, install
from benchmarks.training.speed import measure_speed
from benchmarks.training.thresholds import (
    Trained,
    cartpole_figures,
    learn_until,
    lunarlander_figures,
    train_preset,
)

PARTS = {
    "replay": "replay",
    "speed": "common setting",
    "cartpole": "CartPole",
    "lunarlander": "LunarLander",
    "pong": "Pong",
    "two-cores": "two cores",
    "apex": "Ape-X",
}
"""Each part and how its figures' names begin."""

_COMMAND = ("python", "-m", "benchmarks.training", "--write")
_PACKAGES = ("torch", "numpy", "gymnasium", "zstandard", "ale-py", "ray")
_VANILLA = ("--no-double", "--n-step", "1")
_UNTIL = (sys.executable, "-m", "benchmarks.training.until")
_GOOD = 475.0
"""Return that CartPole is learned to."""
_VANILLA_SEEDS = 2
"""It is shown beside, and not judged."""


def main(arguments: Sequence[str]) -> int:
    """Measure, print and, if asked, write; 1 if a goal is not met."""
    options = _parse(arguments)
    torch.set_num_threads(1)
    libraries = [] if options.alone else _installed()
    measures: dict[str, Callable[[], list[Figure]]] = {
        "replay": lambda: measure_replay(quick=options.quick),
        "speed": lambda: measure_speed(libraries, options.rounds, quick=options.quick),
        "cartpole": lambda: _cartpole(libraries, options.seeds, quick=options.quick),
        "lunarlander": lambda: _lunarlander(libraries, options.seeds, quick=options.quick),
        "pong": lambda: measure_pong(
            options.rounds, with_rival=not options.alone, quick=options.quick
        ),
        "two-cores": lambda: measure_two_cores(
            options.rounds, with_rival=not options.alone, quick=options.quick
        ),
        "apex": lambda: _apex(quick=options.quick),
    }
    figures: list[Figure] = []
    for part in options.parts:
        print(f"measuring {part}", file=sys.stderr, flush=True)
        try:
            measured = measures[part]()
        except ProgramError as error:
            print(f"{part} is left out: {error}", file=sys.stderr)
            continue
        figures += measured
        if options.write and not options.quick:
            together = merged(read_figures("training"), PARTS[part], measured, list(PARTS.values()))
            write_result("training", _COMMAND, _PACKAGES, together)
    print_figures("training", figures)
    return 0 if options.quick or all(figure.met is not False for figure in figures) else 1


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, default=5, help="seeds of each preset")
    parser.add_argument("--rounds", type=int, default=3, help="turns that programs take")
    parser.add_argument("--alone", action="store_true", help="measure no library beside")
    parser.add_argument("--quick", action="store_true", help="only show that all of it still runs")
    parser.add_argument("--write", action="store_true", help="keep the result file")
    options = parser.parse_args(arguments)
    if options.quick:
        options.seeds = options.rounds = 1
    return options


def _installed() -> list[Library]:
    found = []
    for library in LIBRARIES:
        try:
            install(library)
        except InstallError as error:
            print(f"{library.title} is left out: {error}", file=sys.stderr)
        else:
            found.append(library)
    return found


def _cartpole(libraries: list[Library], num_seeds: int, *, quick: bool) -> list[Figure]:
    flags = ("--total-steps", "3000") if quick else ()
    steps = 3_000 if quick else 50_000
    ours = _train("cartpole", num_seeds, flags)
    vanilla = _train("cartpole", min(num_seeds, _VANILLA_SEEDS), (*flags, *_VANILLA))
    until = learn_until((*_UNTIL, "--preset", "cartpole"), _GOOD, steps, range(num_seeds))
    sb3, theirs = _sb3(libraries), []
    if sb3 is not None:
        command = (sb3.python, *sb3.command, "--settings", "CartPole-v1")
        theirs = learn_until(command, _GOOD, steps, range(num_seeds))
    return [
        *cartpole_figures(ours, until, theirs, sb3.title if sb3 else None),
        *ratio_figures("CartPole, double", ours, vanilla),
    ]


def _lunarlander(libraries: list[Library], num_seeds: int, *, quick: bool) -> list[Figure]:
    flags = ("--total-steps", "6000") if quick else ()
    steps = 1_000 if quick else 20_000
    ours = _train("lunarlander", num_seeds, flags)
    vanilla = _train("lunarlander", min(num_seeds, _VANILLA_SEEDS), (*flags, *_VANILLA))
    return [
        *lunarlander_figures(ours, _sb3(libraries), steps=steps),
        *bias_figures("LunarLander, double", ours, vanilla),
    ]


def _apex(*, quick: bool) -> list[Figure]:
    # Only this part needs Ray, which takes seconds to import.
    from benchmarks.training.apex import measure

    return measure(quick=quick)


def _train(preset: str, num_seeds: int, flags: tuple[str, ...]) -> list[Trained]:
    with tempfile.TemporaryDirectory() as folder:
        return [
            train_preset(preset, seed, Path(folder) / str(seed), flags) for seed in range(num_seeds)
        ]


def _sb3(libraries: list[Library]) -> Library | None:
    return next((each for each in libraries if each.name == "train-sb3"), None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
