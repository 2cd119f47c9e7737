"""`python -m benchmarks.retraining`: what is learned from a log, and whether the gate is right.

And what comes of both, cycle after cycle; what a cycle costs a service beside it; and d3rlpy on the
same logs. With `--write` each part that is measured takes the place of what the result file said of
it, as soon as it is done.
"""

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch

from benchmarks.report import Figure, merged, print_figures, read_figures, write_result
from benchmarks.retraining.beside import QUICK_TURNS, TURNS, measure_beside
from benchmarks.retraining.cycle_figures import cycle_figures
from benchmarks.retraining.cycles import CYCLES, QUICK_CYCLES, CycleSizes, run_cycles
from benchmarks.retraining.rival import D3RLPY, RIVAL_UPDATES, measure_rival
from benchmarks.retraining.studies import (
    Judged,
    Learned,
    Sizes,
    gate_study,
    kept,
    learn_study,
    rank_correlation,
    regret,
)
from benchmarks.retraining.tasks import CARTPOLE, TASKS, Task
from benchmarks.training.rivals.environments import ENVIRONMENTS, install
from retraining.dynamics import DynamicsConfig
from retraining.fitted_q import FittedQConfig
from retraining.gate import GateLimits
from retraining.practice import PracticeConfig
from training.offline import OfflineConfig

PARTS: Final = ("learning", "gate", "cycles", "beside", "rival")
_OF_A_TASK: Final = ("learning", "gate")
"""Parts that are measured once a task, each for itself."""
_COMMAND: Final = ("python", "-m", "benchmarks.retraining", "--write")
_PACKAGES: Final = ("torch", "numpy", "gymnasium", "onnxruntime", "redis")
_FIRST_GATE_SEED: Final = 1_003
"""Of the gate's logs: the gate was developed on the three before."""
_RIVAL: Final = "d3rlpy 2.8.1, another log of return 44.6: Double DQN 353, CQL 59, BC 47 at 10k"


QUICK: Final = Sizes(
    log_steps=8_000,
    offline=OfflineConfig(alphas=(0.5,), updates=100, candidate_updates=(50,), batch_size=64),
    fitted=FittedQConfig(draws=2, starts=2, updates=100, batch_size=64, hidden_size=16),
    limits=GateLimits(least_episodes=2),
    evaluation_episodes=3,
    judged=OfflineConfig(alphas=(0.5,), updates=100, candidate_updates=(50,), batch_size=64),
    online_snapshots=2,
    corruptions=(0.5,),
    dynamics=DynamicsConfig(members=2, updates=100, batch_size=64, hidden_size=16, starts=10),
    practice=PracticeConfig(updates=100, candidate_every_updates=50, batch_size=64, lanes=8),
)


def learning_figures(task: Task, results: Sequence[Learned]) -> list[Figure]:
    """What the chosen candidates return, beside the baselines."""
    spread = task.highest - task.lowest
    safe = sum(each.by_method["conservative"] >= each.behaviour - 0.02 * spread for each in results)
    closed = [_gap_closed(task, each.behaviour, each.by_method["conservative"]) for each in results]
    plain = [_gap_closed(task, each.behaviour, each.by_method["plain"]) for each in results]
    name = task.preset
    return [
        Figure.at_least(
            f"{name}: seeds of {len(results)} not below the behaviour by 2 % of the range",
            safe,
            "seeds",
            np.ceil(0.9 * len(results) if name == "lunarlander" else 0.95 * len(results)),
        ),
        Figure.at_least(
            f"{name}: share of the gap to the expert that the median seed closes",
            float(np.median(closed)),
            "share",
            0.25,
        ),
        Figure(
            f"{name}: the same of plain Double DQN's last step", float(np.median(plain)), "share"
        ),
        *(
            Figure(
                f"{name}: return of {who}, median seed",
                float(np.median(values)),
                "return",
                rival=_RIVAL if name == "cartpole" and who == "the chosen candidate" else None,
            )
            for who, values in (
                ("the behaviour", [each.behaviour for each in results]),
                ("the chosen candidate", [each.by_method["conservative"] for each in results]),
                ("plain Double DQN", [each.by_method["plain"] for each in results]),
                ("cloning", [each.by_method["cloning"] for each in results]),
            )
        ),
        Figure(
            f"{name}: CPU time of a seed, all methods",
            float(np.mean([each.cpu_seconds for each in results])),
            "seconds",
        ),
    ]


def gate_figures(task: Task, judged: Sequence[Judged]) -> list[Figure]:
    """Whether the gate ranks candidates, blocks the worse and passes the better."""
    spread = task.highest - task.lowest
    worse = [each for each in judged if each.true_return <= each.current_return - 0.1 * spread]
    better = [each for each in judged if each.true_return >= each.current_return + 0.05 * spread]
    figures = [
        Figure.at_least(
            f"{task.preset}: rank correlation over {len(judged)} candidates",
            rank_correlation(judged),
            "Spearman's rho",
            0.9,
        ),
        Figure.at_most(
            f"{task.preset}: regret of the best estimate", regret(judged) / spread, "share", 0.02
        ),
        Figure.at_most(
            f"{task.preset}: the gate's CPU time a candidate",
            float(np.mean([each.cpu_seconds for each in judged])),
            "seconds",
            300.0,
        ),
        Figure(
            f"{task.preset}: advantages that are below their 95 % bound by 2 % or more",
            float(np.mean([_shortfall(each) >= 0.02 * spread for each in judged])),
            "share",
        ),
    ]
    if worse:
        passed = sum(each.decision == "pass" for each in worse)
        figures.append(
            Figure.at_most(
                f"{task.preset}: passed of {len(worse)} worse by 10 %", passed, "candidates", 0
            )
        )
    if better:
        share = sum(each.decision == "pass" for each in better) / len(better)
        figures.append(
            Figure.at_least(
                f"{task.preset}: passed of {len(better)} better by 5 %", share, "share", 0.8
            )
        )
    return figures


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark; 1 if a goal is not met."""
    options = _parse(arguments)
    torch.set_num_threads(1)
    # Else servers would outlive a drill that is told to end.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    measures: dict[str, Callable[[Path], list[Figure]]] = {
        "learning": lambda out: _learning(options, out),
        "gate": lambda out: _gate(options, out),
        "cycles": lambda out: cycle_figures(
            run_cycles(out / "cycles" if options.quick else options.folder, _cycle_sizes(options))
        ),
        "beside": lambda out: measure_beside(out, QUICK_TURNS if options.quick else TURNS),
        "rival": lambda out: _rival(options, out),
    }
    figures: list[Figure] = []
    for part in options.parts:
        with tempfile.TemporaryDirectory() as folder:
            measured = [
                replace(each, figure=f"{part}, {each.figure}")
                for each in measures[part](Path(folder))
            ]
        figures += measured
        if options.write and not options.quick:
            title = f"{part}, {options.preset}:" if part in _OF_A_TASK else f"{part}, "
            order = [f"{each}, " for each in PARTS]
            together = merged(read_figures("retraining"), title, measured, order)
            print("written to", write_result("retraining", _COMMAND, _PACKAGES, together))
    print_figures("retraining", figures)
    return 0 if options.quick or all(figure.met is not False for figure in figures) else 1


def _learning(options: argparse.Namespace, out: Path) -> list[Figure]:
    task = TASKS[options.preset]
    sizes = _sizes(options, task)
    num_seeds = 1 if options.quick else options.seeds or task.seeds
    folder = out if options.quick else ENVIRONMENTS / f"retraining-learning-{task.preset}"
    results: list[Learned] = []
    for seed in range(num_seeds):
        study = partial(
            learn_study, task.preset, seed, task.half_trained, sizes, out / f"seed-{seed}"
        )
        found = kept(folder / f"{seed}.json", study)
        told = ", ".join(f"{method} {value:.0f}" for method, value in found.by_method.items())
        print(f"seed {seed}: behaviour {found.behaviour:.0f}, {told}", file=sys.stderr, flush=True)
        results.append(found)
    # Another study measures anew.
    shutil.rmtree(folder)
    return learning_figures(task, results)


def _gate(options: argparse.Namespace, out: Path) -> list[Figure]:
    task = TASKS[options.preset]
    sizes = _sizes(options, task)
    num_logs = 1 if options.quick else options.gate_logs or task.gate_logs
    judged: list[Judged] = []
    for seed in range(_FIRST_GATE_SEED, _FIRST_GATE_SEED + num_logs):
        judged += gate_study(task.preset, seed, task.judged_against, sizes, out / str(seed))
        print(f"log {seed}: {len(judged)} candidates so far", file=sys.stderr, flush=True)
    return gate_figures(task, judged)


def _shortfall(judged: Judged) -> float:
    return judged.lower_bound - (judged.true_return - judged.current_return)


def _rival(options: argparse.Namespace, out: Path) -> list[Figure]:
    install(D3RLPY)
    seeds = range(1 if options.quick else options.seeds or 3)
    updates = 200 if options.quick else RIVAL_UPDATES
    return measure_rival(seeds, CARTPOLE.half_trained, _sizes(options, CARTPOLE), updates, out)


def _sizes(options: argparse.Namespace, task: Task) -> Sizes:
    if options.quick:
        return QUICK
    return Sizes(
        log_steps=options.log_steps or task.log_steps,
        offline=task.offline,
        fitted=FittedQConfig(),
        limits=GateLimits(),
        evaluation_episodes=task.evaluation_episodes,
        judged=OfflineConfig(alphas=(0.01, 0.03), updates=1_200, candidate_updates=(300, 600)),
        online_snapshots=12,
        corruptions=(0.1, 0.5),
    )


def _cycle_sizes(options: argparse.Namespace) -> CycleSizes:
    return QUICK_CYCLES if options.quick else CYCLES


def _gap_closed(task: Task, behaviour: float, found: float) -> float:
    return (found - behaviour) / max(task.highest - behaviour, 1e-9)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retraining", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--preset", choices=sorted(TASKS), default=CARTPOLE.preset)
    parser.add_argument("--seeds", type=int, help="seeds; the task's own number where not given")
    parser.add_argument("--gate-logs", type=int, help="logs of the gate's study; likewise")
    parser.add_argument("--log-steps", type=int, help="of each log; likewise")
    parser.add_argument(
        "--folder",
        type=Path,
        default=ENVIRONMENTS / "retraining-cycles",
        help="where the cycles are; a drill that was cut off goes on there",
    )
    parser.add_argument("--quick", action="store_true", help="only show that all of it still runs")
    parser.add_argument("--write", action="store_true", help="keep the result file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
