"""`python -m benchmarks.experience`: a million Atari transitions on disk and read back.

Pong and Breakout are played in the Arcade Learning Environment by a random policy with sticky
actions, half a million transitions each. They enter the dataset where the join would hand them
over; what is read back is whole stacks, the next ones too.
"""

import sys
import tempfile
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

from pydantic import PositiveInt
from pydantic_settings import CliApp

from benchmarks.experience.reading import ReadingResult
from benchmarks.experience.storing import GameResult, read_back, store_game
from benchmarks.report import Figure, print_figures, write_result
from training.config import Flags

_PACKAGES = ("ale-py", "numpy", "pyarrow", "zstandard")
_GAMES = ("pong", "breakout")
_QUICK_TRANSITIONS = 20_000
_RANDOM_BATCHES = 400
_QUICK_BATCHES = 20
_MILLION = 1_000_000
_GOAL_GIGABYTES = 0.5
_GOAL_RATE = 20_000.0
_ARTICLE_GIGABYTES = 4.0


class ExperienceBenchmark(Flags):
    """Play Atari games, store every transition and read all of them back."""

    transitions: PositiveInt = _MILLION
    """How many, over all games."""

    quick: bool = False
    """A few transitions: shows in under a minute that this still runs; writes no result."""


def summarise(results: list[GameResult]) -> list[Figure]:
    """The figures: size and speed over all games first, then each game's."""
    stored = sum(result.transitions for result in results)
    gigabytes = sum(result.size_bytes for result in results) / stored * _MILLION / 1e9
    figures = [
        Figure(
            f"a million transitions on disk ({stored:,} stored)",
            gigabytes,
            "GB",
            goal=f"at most {_GOAL_GIGABYTES:g}",
            rival=f"{_ARTICLE_GIGABYTES:g} GB (the article, stated)",
            ratio=_ARTICLE_GIGABYTES / gigabytes,
            met=gigabytes <= _GOAL_GIGABYTES,
        ),
        Figure.at_least(
            "loaded in order, as stacks, of one core's time",
            _rate(results, lambda result: result.in_order, lambda read: read.cpu_seconds),
            "transitions/s",
            _GOAL_RATE,
        ),
        Figure(
            "loaded in order, as stacks, by the clock",
            _rate(results, lambda result: result.in_order, lambda read: read.wall_seconds),
            "transitions/s",
        ),
        Figure(
            "drawn at random from memory, compressed, of one core's time",
            _rate(results, lambda result: result.at_random, lambda read: read.cpu_seconds),
            "transitions/s",
        ),
        Figure(
            "memory of a process that loads in order, at its highest",
            max(result.in_order.peak_bytes for result in results) / 2**20,
            "MiB",
        ),
        Figure(
            "memory of a process that draws at random, at its highest",
            max(result.at_random.peak_bytes for result in results) / 2**20,
            "MiB",
        ),
    ]
    for result in results:
        num_rows = sum(part.num_rows for part in result.parts)
        frame_bytes = sum(part.files["observations.parquet"].size_bytes for part in result.parts)
        figures += [
            Figure(f"{result.game}: transitions", result.transitions, "transitions"),
            Figure(f"{result.game}: frames", frame_bytes / num_rows, "B/frame"),
            Figure(
                f"{result.game}: all columns",
                result.size_bytes / result.transitions,
                "B/transition",
            ),
            Figure(
                f"{result.game}: packed and sealed, of one core's time",
                result.transitions / result.write_cpu_seconds,
                "transitions/s",
            ),
        ]
    return figures


def main(arguments: list[str]) -> int:
    """Run the benchmark; 1 if a goal is not met."""
    settings = CliApp.run(ExperienceBenchmark, cli_args=arguments)
    transitions = _QUICK_TRANSITIONS if settings.quick else settings.transitions
    random_batches = _QUICK_BATCHES if settings.quick else _RANDOM_BATCHES
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        plays = [(game, transitions // len(_GAMES), root, seed) for seed, game in enumerate(_GAMES)]
        # Games side by side, and then one reader at a time, which has the machine to itself.
        with get_context("spawn").Pool(len(_GAMES)) as pool:
            stored = pool.starmap(store_game, plays)
        results = [read_back(each, root, random_batches) for each in stored]
    figures = summarise(results)
    print_figures("a dataset of Atari transitions", figures)
    if not settings.quick:
        command = ["python", "-m", "benchmarks.experience", *arguments]
        print("written to", write_result("experience", command, _PACKAGES, figures))
    return 0 if all(figure.met is not False for figure in figures) else 1


def _rate(
    results: list[GameResult],
    read: Callable[[GameResult], ReadingResult],
    seconds: Callable[[ReadingResult], float],
) -> float:
    reads = [read(result) for result in results]
    return sum(each.transitions for each in reads) / sum(seconds(each) for each in reads)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
