"""`python -m benchmarks.retraining`: what is learned from a log, and whether the gate is right."""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch

from benchmarks.report import Figure, print_figures, write_result
from benchmarks.retraining.studies import (
    Judged,
    Learned,
    Sizes,
    gate_study,
    learn_study,
    rank_correlation,
    regret,
)
from retraining.fitted_q import FittedQConfig
from retraining.gate import GateLimits
from training.offline import OfflineConfig

PARTS: Final = ("learning", "gate")
_RIVAL: Final = "d3rlpy 2.8.1, another log of return 44.6: Double DQN 353, CQL 59, BC 47 at 10k"


class Task(NamedTuple):
    """An environment and what returns in it are held against."""

    preset: str
    lowest: float
    highest: float
    """Also what an expert returns."""
    half_trained: float
    """Return at which training is stopped, for a log to learn from."""
    judged_against: float
    """The same for the current policy of the gate's study: there are worse ones and better ones."""
    seeds: int
    gate_logs: int


CARTPOLE: Final = Task("cartpole", 0.0, 500.0, 60.0, 150.0, 20, 6)
LUNARLANDER: Final = Task("lunarlander", -250.0, 250.0, 0.0, 100.0, 10, 6)
TASKS: Final = {task.preset: task for task in (CARTPOLE, LUNARLANDER)}

WHOLE: Final = Sizes(
    log_steps=100_000,
    offline=OfflineConfig(),
    fitted=FittedQConfig(),
    limits=GateLimits(),
    evaluation_episodes=50,
    corruptions=2,
)
QUICK: Final = Sizes(
    log_steps=8_000,
    offline=OfflineConfig(alphas=(0.5,), updates=100, candidate_updates=(50,), batch_size=64),
    fitted=FittedQConfig(draws=2, starts=2, updates=100, batch_size=64, hidden_size=16),
    limits=GateLimits(least_episodes=2),
    evaluation_episodes=3,
    corruptions=1,
)


def learning_figures(task: Task, results: Sequence[Learned], cpu_seconds: float) -> list[Figure]:
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
        Figure(f"{name}: CPU time of a seed, all methods", cpu_seconds / len(results), "seconds"),
    ]


def gate_figures(task: Task, judged: Sequence[Judged], cpu_seconds: float) -> list[Figure]:
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
        Figure(f"{task.preset}: CPU time a candidate", cpu_seconds / len(judged), "seconds"),
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
    sizes = QUICK if options.quick else WHOLE._replace(log_steps=options.log_steps)
    task = TASKS[options.preset]
    num_seeds = 1 if options.quick else options.seeds or task.seeds
    num_logs = 1 if options.quick else options.gate_logs or task.gate_logs
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        if "learning" in options.parts:
            start = time.process_time()
            results = [
                learn_study(task.preset, seed, task.half_trained, sizes, out / str(seed))
                for seed in range(num_seeds)
            ]
            figures += learning_figures(task, results, time.process_time() - start)
        if "gate" in options.parts:
            start = time.process_time()
            judged = [
                each
                for seed in range(num_logs)
                for each in gate_study(
                    task.preset, 1_000 + seed, task.judged_against, sizes, out / f"gate-{seed}"
                )
            ]
            figures += gate_figures(task, judged, time.process_time() - start)
    print_figures("retraining", figures)
    if options.write and not options.quick:
        command = ["python", "-m", "benchmarks.retraining", *arguments]
        print("written to", write_result("retraining", command, ("torch", "numpy"), figures))
    return 0 if options.quick or all(figure.met is not False for figure in figures) else 1


def _gap_closed(task: Task, behaviour: float, found: float) -> float:
    return (found - behaviour) / max(task.highest - behaviour, 1e-9)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retraining", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--preset", choices=sorted(TASKS), default=CARTPOLE.preset)
    parser.add_argument("--seeds", type=int, help="seeds; the task's own number where not given")
    parser.add_argument("--gate-logs", type=int, help="logs of the gate's study; likewise")
    parser.add_argument("--log-steps", type=int, default=WHOLE.log_steps, help="of each log")
    parser.add_argument("--quick", action="store_true", help="only show that all of it still runs")
    parser.add_argument("--write", action="store_true", help="keep the result file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
