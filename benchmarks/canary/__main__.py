"""`python -m benchmarks.canary`: how often the judge errs, and how soon it acts.

Rollouts run through the service's assignment and fold and the recorder's evidence and judgement;
other rules see the same kinds of returns.
"""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from math import lgamma, log, log1p
from typing import Final

import numpy as np
from pydantic import PositiveInt
from pydantic_settings import CliApp

from benchmarks.canary.guardrails import false_alarms, rows_of_nan
from benchmarks.canary.rivals import Counts, peeked_mann_whitney, peeked_t_test
from benchmarks.canary.simulation import Ended, Setting, simulate
from benchmarks.canary.thresholds import Sample, tuned
from benchmarks.canary.worlds import WORLDS, Returns, World, swing
from benchmarks.report import Figure, print_figures, write_result
from contract.plan import RolloutPlan, Stage
from training.config import Flags

_PACKAGES: Final = ("numpy",)
_MOST_CANARIES: Final = 600
_MARGIN: Final = 0.05
_DROP: Final = 0.1
_STABLE_PER_CANARY: Final = 9
_DRIFT: Final = 0.1

_STAGED: Final = RolloutPlan(
    stages=tuple(Stage(share=share, hold_seconds=0) for share in (0.01, 0.05, 0.25, 0.5)),
    mode="auto",
    margin=_MARGIN,
    return_range=(0.0, 1.0),
)
"""The plan that is proposed, without the hours of holding: its looks are as many."""
_TENTH: Final = _STAGED.model_copy(update={"stages": (Stage(share=0.1, hold_seconds=0),)})


class CanaryBenchmark(Flags):
    """Simulate rollouts."""

    null_rollouts: PositiveInt = 10_000
    """Of canaries that are as good as stable, over all kinds of returns."""

    rollouts: PositiveInt = 600
    """Of worse canaries, for each kind of returns and each figure."""

    quick: bool = False
    """A twentieth of it, in under a minute: shows that this still runs."""

    write: bool = False
    """Write `benchmarks/results/canary.json`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 1 where a goal is not met."""
    options = CliApp.run(CanaryBenchmark, cli_args=list(arguments or sys.argv[1:]))
    null, each = options.null_rollouts, options.rollouts
    if options.quick:
        null, each = null // 50, max(each // 20, 20)
    began = time.process_time()
    figures = [
        *_false_rollbacks(null),
        *_false_promotions(each * 2),
        *_speed(each),
        *_rivals(each),
        *rows_of_nan(),
        *false_alarms(null // 50),
    ]
    figures.append(Figure("CPU time of all this", time.process_time() - began, "s"))
    print_figures("canary", figures)
    if options.write and not options.quick:
        command = ["python", "-m", "benchmarks.canary", *(arguments or sys.argv[1:])]
        _tell(f"written: {write_result('canary', command, _PACKAGES, figures)}")
    return 0 if options.quick or all(figure.met is not False for figure in figures) else 1


def _false_rollbacks(rollouts: int) -> Iterator[Figure]:
    """With each kind of returns a quarter, and a quarter in a world that drifts."""
    ended: list[Ended] = []
    kinds = [(name, world, 0.0) for name, world in WORLDS.items()]
    kinds.append(("tight, drifting", WORLDS["tight"], _DRIFT))
    for place, (name, world, drift) in enumerate(kinds):
        setting = Setting(world, 0.0, _STAGED, _MOST_CANARIES, drift)
        found = _run(setting, -(-rollouts // len(kinds)), place)
        wrong = sum(each.outcome == "rolled_back" for each in found)
        yield Figure(f"false rollbacks, {name}", wrong / len(found), "share")
        yield _median_promotion(name, found)
        ended += found
    wrong = sum(each.outcome == "rolled_back" for each in ended)
    yield Figure(f"null rollouts ({wrong} rolled back)", len(ended), "rollouts")
    yield Figure.at_most("false rollbacks, all", wrong / len(ended), "share", 0.02)
    yield Figure.at_most(
        "false rollbacks, all, 95 % upper bound", upper_bound(wrong, len(ended)), "share", 0.02
    )


def _median_promotion(name: str, ended: Sequence[Ended]) -> Figure:
    promoted = [each.canary_episodes for each in ended if each.outcome == "promoted"]
    share = len(promoted) / len(ended)
    return Figure(
        f"canary episodes to promote an equal canary, {name} ({share:.0%} within 600)",
        float(np.median(promoted)) if promoted else float("nan"),
        "episodes, median",
    )


def _false_promotions(rollouts: int) -> Iterator[Figure]:
    for place, (name, world) in enumerate(WORLDS.items()):
        found = _run(Setting(world, _MARGIN, _STAGED, _MOST_CANARIES), rollouts, 100 + place)
        wrong = sum(each.outcome == "promoted" for each in found)
        figure = f"promotions of a canary that is worse by the margin, {name}"
        yield Figure.at_most(figure, wrong / len(found), "share", 0.05)


def _speed(rollouts: int) -> Iterator[Figure]:
    for place, (name, world) in enumerate(WORLDS.items()):
        found = _run(Setting(world, _DROP, _TENTH, _MOST_CANARIES), rollouts, 200 + place)
        episodes = _episodes_to_rollback(found)
        goal = 30 if name == "tight" else 150
        figure = f"canary episodes until a fall by a tenth is rolled back, {name}"
        yield Figure.at_most(figure, float(np.median(episodes)), "episodes, median", goal)
        limit = 60 if name == "tight" else 300
        upper = float(np.quantile(episodes, 0.95))
        yield Figure(figure, upper, "episodes, 95th percentile", f"reference {limit}")


def _rivals(rollouts: int) -> Iterator[Figure]:
    generator = np.random.default_rng(300)
    for height in (_DRIFT, 0.0):
        samples = {
            name: Sample(
                *(_canaries(world, drop, height, rollouts, generator) for drop in (0, _DROP))
            )
            for name, world in WORLDS.items()
        }
        ours = {
            name: _episodes_to_rollback(
                _run(Setting(world, _DROP, _TENTH, _MOST_CANARIES, height), rollouts, 400 + place)
            )
            for place, (name, world) in enumerate(WORLDS.items())
        }
        yield from _beside_thresholds(samples, ours, height)
    yield from _tests(rollouts, generator)


def _canaries(
    world: World, drop: float, height: float, rollouts: int, generator: np.random.Generator
) -> Returns:
    """Returns of canary episodes, a tenth of all, [R, N]."""
    began_at = np.arange(_MOST_CANARIES, dtype=np.float64) * (_STABLE_PER_CANARY + 1)
    harder = swing(height, generator.random((rollouts, 1)), began_at)
    returns = world(generator, (drop + harder).ravel(), rollouts * _MOST_CANARIES)
    return returns.reshape(rollouts, _MOST_CANARIES)


def _beside_thresholds(
    samples: Mapping[str, Sample], ours: Mapping[str, Counts], height: float
) -> Iterator[Figure]:
    """One setting for all kinds of returns, as nobody knows beforehand of which kind they are."""
    (window, failures, distance), theirs = tuned(list(samples.values()), 0.01)
    lost, rival = (
        _DROP * float(np.mean([counts.mean() for counts in found]))
        for found in (ours.values(), theirs)
    )
    drift = f"the world drifting by {height:g} both ways" if height else "without drift"
    is_goal = height > 0
    yield Figure(
        f"return lost to a canary worse by a tenth, mean of the kinds of returns, {drift}",
        lost,
        "of the return range",
        "a third of the rival's at most" if is_goal else None,
        "Argo-like thresholds tuned to 1 % false rollbacks, one setting for all kinds (windows of "
        f"{window} canary episodes, {failures} failures allowed, {distance:.2f} below the mean): "
        f"{rival:.3g}",
        rival / lost,
        rival >= 3 * lost if is_goal else None,
    )
    for name, sample in samples.items():
        own, (counts,) = tuned([sample], 0.01)
        mine, rival = (_DROP * float(found.mean()) for found in (ours[name], counts))
        yield Figure(
            f"return lost likewise, {name}, {drift}",
            mine,
            "of the return range",
            rival=f"thresholds tuned to this kind alone, its mean known (windows of {own[0]}, "
            f"{own[1]} failures allowed): {rival:.3g}",
            ratio=rival / mine,
        )


def _tests(rollouts: int, generator: np.random.Generator) -> Iterator[Figure]:
    for name, world in WORLDS.items():
        for told, test, runs in (
            ("a t-test", peeked_t_test, rollouts),
            ("Mann-Whitney", peeked_mann_whitney, min(rollouts, 200)),
        ):
            size = runs * _MOST_CANARIES
            stable = world(generator, 0.0, size * _STABLE_PER_CANARY)
            beside = stable.reshape(runs, _MOST_CANARIES, -1)
            for drop, figure in ((0.0, "false rollbacks"), (_DROP, "canary episodes")):
                canary = world(generator, drop, size).reshape(runs, _MOST_CANARIES)
                counts = test(canary, beside)
                value = (
                    float((counts <= _MOST_CANARIES).mean())
                    if drop == 0
                    else float(np.median(counts))
                )
                unit = "share" if drop == 0 else "episodes to rollback, median"
                rival = "1 % at each look, a look after each 20 canary episodes"
                yield Figure(f"{figure} of {told} that peeks, {name}", value, unit, rival=rival)


def _run(setting: Setting, rollouts: int, seed: int) -> list[Ended]:
    return [
        simulate(setting, number, np.random.default_rng((seed, number)))
        for number in range(rollouts)
    ]


def _episodes_to_rollback(ended: Sequence[Ended]) -> Counts:
    """Those that were never rolled back count as one more than the most."""
    return np.array(
        [
            each.canary_episodes if each.outcome == "rolled_back" else _MOST_CANARIES + 1
            for each in ended
        ]
    )


def upper_bound(hits: int, trials: int, alpha: float = 0.05) -> float:
    """Clopper and Pearson's one-sided bound on a rate, found by halving."""
    low, high = hits / trials, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(hits, trials, middle) > alpha:
            low = middle
        else:
            high = middle
    return high


def _at_most(hits: int, trials: int, rate: float) -> float:
    """The binomial probability of so many hits or fewer."""
    terms = [
        lgamma(trials + 1)
        - lgamma(number + 1)
        - lgamma(trials - number + 1)
        + (number * log(rate) if number else 0.0)
        + (trials - number) * log1p(-rate)
        for number in range(hits + 1)
    ]
    return float(np.exp(np.array(terms)).sum())


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
