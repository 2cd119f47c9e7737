"""Pong end to end with the Nature network: what a step costs, learning included.

Eight environments, one update of 32 transitions for every four steps: the preset's ratio and
Stable-Baselines3's. The emulator and the learner alone are measured beside them.
"""

import sys
import time
from typing import Literal

import numpy as np
import torch

from benchmarks.report import Figure
from benchmarks.training.processes import FROM_HERE, Program, seconds_a_step
from benchmarks.training.replay import per_cpu_second
from benchmarks.training.rivals.environments import PROGRAMS, InstallError, Library, install
from training.config import TrainingConfig
from training.environments import Environments, describe_environment
from training.learner import Learner
from training.memory import keep_freed_memory
from training.replay import Batch

SB3 = Library(
    "train-sb3-atari",
    "Stable-Baselines3 2.9.2",
    (
        "stable-baselines3==2.9.2",
        "gymnasium==1.2.3",
        "ale-py==0.12.1",
        "opencv-python-headless>=4.10",
    ),
    (str(PROGRAMS / "sb3_pong.py"),),
)
OURS = (
    *(sys.executable, "-m", "training", "--preset", "pong", "--out", "run", "--no-tensorboard"),
    # Stable-Baselines3's algorithm: plain DQN.
    *("--no-double", "--n-step", "1"),
    # Evaluations play games that are cut short, alike in the short run and the long one.
    *("--environment-id", "ALE/Pong-v5?max_screens=2000", "--evaluation-episodes", "1"),
    *("--learning-starts", "200", "--replay-capacity", "5000"),
    *("--evaluation-every-steps", "1000000", "--checkpoint-every-steps", "1000000"),
)
GOAL_RATIO, GOAL_RATIO_ON_TWO_CORES = 1.3, 1.6
GOAL_UPDATES = 18.1
"""A CPU second at batch 32, of the same network with fused Adam, the best measured of others."""

GYMNASIUM, ALE_VECTOR = 600, 876
"""Agent steps a CPU second of gymnasium's and ale-py's own environments, measured on the same two
cores, quiet."""


def measure_pong(rounds: int, *, with_rival: bool, quick: bool) -> list[Figure]:
    """Steps a CPU second with learning, and what its parts do alone."""
    return [
        _learning_figure(1, rounds, with_rival=with_rival, quick=quick),
        _learner_figure(learner_rate(1.0 if quick else 10.0)),
        Figure(
            "Pong, environments alone, stepped one after another",
            environment_rate(200 if quick else 2_000),
            "steps/CPU s",
            rival=f"gymnasium {GYMNASIUM}, ale-py's vector environment {ALE_VECTOR} (earlier run)",
        ),
    ]


def measure_two_cores(rounds: int, *, with_rival: bool, quick: bool) -> list[Figure]:
    """Steps a second of two threads, for which both cores must be free."""
    return [_learning_figure(2, rounds, with_rival=with_rival, quick=quick)]


def _learning_figure(
    threads: Literal[1, 2], rounds: int, *, with_rival: bool, quick: bool
) -> Figure:
    """One thread is counted in CPU time; of two, what counts is how soon they are done."""
    lengths = (320, 480) if quick else (480, 2_880)
    flags = ("--threads", str(threads))
    programs = [Program((*OURS, *flags), "--total-steps", FROM_HERE)]
    if with_rival and _is_there():
        programs.append(Program((SB3.python, *SB3.command, *flags), "--steps"))
    costs = seconds_a_step(programs, lengths, rounds, "cpu" if threads == 1 else "wall")
    ours, *others = (1.0 / cost for cost in costs)
    goal = GOAL_RATIO if threads == 1 else GOAL_RATIO_ON_TWO_CORES
    ratio = ours / others[0] if others else None
    return Figure(
        ("two cores: " if threads == 2 else "") + "Pong with learning, this project",
        ours,
        "steps/CPU s" if threads == 1 else "steps/s",
        goal=f"at least {goal:g} times Stable-Baselines3's",
        rival=f"{SB3.title}: {others[0]:.1f}" if others else None,
        ratio=ratio,
        met=None if ratio is None else ratio >= goal,
    )


def _learner_figure(rate: float) -> Figure:
    return Figure(
        "Pong, the learner alone at batch 32",
        rate,
        "updates/CPU s",
        goal=f"at least {GOAL_UPDATES:g}",
        rival="torch by hand, Adam fused (measured before, quiet)",
        ratio=rate / GOAL_UPDATES,
        met=rate >= GOAL_UPDATES,
    )


def learner_rate(seconds: float) -> float:
    """Updates a CPU second of the Nature network, plain DQN, one thread."""
    keep_freed_memory()
    torch.set_num_threads(1)
    environment = describe_environment("ALE/Pong-v5")
    config = TrainingConfig.from_arguments(
        ["--preset", "pong", "--out", "nowhere", "--no-double", "--n-step", "1"]
    )
    learner = Learner(
        config.network(environment.observation.shape, environment.num_actions),
        config,
        torch.Generator().manual_seed(0),
    )
    generator = torch.Generator().manual_seed(1)
    size, shape = config.batch_size, environment.observation.shape
    batch = Batch(
        observations=torch.randint(256, (size, *shape), dtype=torch.uint8, generator=generator),
        actions=torch.randint(environment.num_actions, (size,), generator=generator),
        rewards=torch.zeros(size),
        next_observations=torch.randint(
            256, (size, *shape), dtype=torch.uint8, generator=generator
        ),
        terminated=torch.zeros(size, dtype=torch.bool),
        truncated=torch.zeros(size, dtype=torch.bool),
        steps=torch.ones(size, dtype=torch.uint8),
        weights=torch.ones(size),
    )
    return per_cpu_second(lambda: learner.update(batch), seconds)


def environment_rate(num_steps: int) -> float:
    """Agent steps a CPU second without network or replay."""
    environments = Environments("ALE/Pong-v5", 8, seed=0)
    rng = np.random.default_rng(0)
    start = time.process_time()
    for _ in range(num_steps // 8):
        environments.step(rng.integers(6, size=8))
    return num_steps / (time.process_time() - start)


def _is_there() -> bool:
    try:
        install(SB3)
    except InstallError as error:
        print(f"{SB3.title} is left out: {error}", file=sys.stderr)
        return False
    return True
