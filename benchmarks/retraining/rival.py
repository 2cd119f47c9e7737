"""The same logs learned from by d3rlpy: what comes of it, and what it takes."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from benchmarks.report import Figure
from benchmarks.retraining.logs import half_trained, log_of, true_return
from benchmarks.retraining.studies import EPSILON, Sizes, learn
from benchmarks.training.processes import run
from benchmarks.training.rivals.environments import Library
from training.offline_log import LoggedSteps

D3RLPY: Final = Library(
    "retrain-d3rlpy",
    "d3rlpy 2.8.1",
    ("d3rlpy==2.8.1",),
    (str(Path(__file__).parent / "rivals" / "d3rlpy_offline.py"),),
)
METHODS: Final = {"cql": "DiscreteCQL", "double": "DoubleDQN"}
RIVAL_UPDATES: Final = 10_000
"""Of d3rlpy, which begins from nothing; its reproductions take more."""


class Beside(NamedTuple):
    """What one log came to."""

    behaviour: float
    """Return of the policy that wrote it."""
    ours: float
    cpu_seconds: float
    """Of ours: all candidates and their choice."""
    wall_seconds: float
    theirs: dict[str, dict[str, Any]]
    """Method to what d3rlpy's program printed."""


def measure_rival(
    seeds: Sequence[int], target_return: float, sizes: Sizes, updates: int, out: Path
) -> list[Figure]:
    """Learn from CartPole logs, one a seed, here and there."""
    return rival_figures(
        [_learn_both(seed, target_return, sizes, updates, out / str(seed)) for seed in seeds]
    )


def rival_figures(found: Sequence[Beside]) -> list[Figure]:
    """Medians over the seeds, ours beside each of theirs."""
    ours = _median([each.ours for each in found])
    cpu = _median([each.cpu_seconds for each in found])
    wall = _median([each.wall_seconds for each in found])
    name = f"median of {len(found)} logs"
    figures = [
        Figure(f"{name}, return of who wrote it", _median([e.behaviour for e in found]), "return")
    ]
    for method, title in METHODS.items():
        theirs = {
            key: _median([each.theirs[method][key] for each in found])
            for key in found[0].theirs[method]
        }
        figures += [
            _larger(f"{name}, return, beside {title}", ours, theirs["mean_return"], "return"),
            _smaller(f"{name}, CPU time, beside {title}", cpu, theirs["cpu_seconds"]),
            _smaller(f"{name}, wall time, beside {title}", wall, theirs["wall_seconds"]),
            # Ours has many candidates and the choice among them in it: this is what it does.
            _smaller(
                f"{name}, CPU time, beside {title} and its DiscreteFQE",
                cpu,
                theirs["cpu_seconds"] + theirs["evaluation_cpu_seconds"],
            ),
            _smaller(
                f"{name}, wall time, beside {title} and its DiscreteFQE",
                wall,
                theirs["wall_seconds"] + theirs["evaluation_wall_seconds"],
            ),
            Figure(
                f"{name}, what d3rlpy's DiscreteFQE says of its {title}",
                theirs["estimate"],
                f"return, truly {theirs['discounted_return']:.3g}, "
                f"at most {theirs['highest_possible']:.3g}",
            ),
        ]
    return figures


def _learn_both(seed: int, target_return: float, sizes: Sizes, updates: int, out: Path) -> Beside:
    policy = half_trained("cartpole", seed, target_return, out)
    log = log_of(policy, sizes.log_steps, EPSILON, seed)
    cpu, wall = time.process_time(), time.perf_counter()
    network = learn(policy, log, "conservative", sizes, seed)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    out.mkdir(parents=True, exist_ok=True)
    _write_log(log, out / "log.npz")
    episodes = sizes.evaluation_episodes
    theirs = {
        method: run(
            [
                *(D3RLPY.python, *D3RLPY.command, str(out / "log.npz"), "--method", method),
                *("--updates", str(updates), "--evaluation-updates", str(updates)),
                *("--episodes", str(episodes), "--seed", str(seed)),
                *("--discount", str(policy.config.discount)),
            ]
        ).printed
        for method in METHODS
    }
    return Beside(
        true_return(policy.network, policy.config, episodes, seed),
        true_return(network, policy.config, episodes, seed),
        cpu,
        wall,
        theirs,
    )


def _write_log(log: LoggedSteps, path: Path) -> None:
    ends = np.append(log.episodes[1:] != log.episodes[:-1], True)
    np.savez(
        path,
        observations=log.observations,
        actions=log.actions,
        rewards=log.rewards,
        terminated=log.terminated,
        truncated=ends & ~log.terminated,
    )


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))


def _larger(figure: str, ours: float, theirs: float, unit: str) -> Figure:
    rival = f"{D3RLPY.title}: {theirs:.4g}"
    goal = "at least the rival's"
    return Figure(figure, ours, unit, goal, rival, ours / theirs, met=ours >= theirs)


def _smaller(figure: str, ours: float, theirs: float) -> Figure:
    rival = f"{D3RLPY.title}: {theirs:.4g}"
    goal = "at most the rival's"
    return Figure(figure, ours, "seconds", goal, rival, theirs / ours, met=ours <= theirs)
