"""Pong end to end with the Nature network: what a step costs, learning included.

Eight environments, one update of 32 transitions for every four steps, one thread: the preset's
ratio and Stable-Baselines3's. The emulator alone is measured beside them.
"""

import sys
import time

import numpy as np

from benchmarks.report import Figure
from benchmarks.training.processes import FROM_HERE, Program, cpu_seconds_a_step
from benchmarks.training.rivals.environments import PROGRAMS, InstallError, Library, install
from training.environments import Environments

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
GOAL_RATIO = 1.3
GYMNASIUM, ALE_VECTOR = 600, 876
"""Agent steps a CPU second of gymnasium's and ale-py's own environments, measured on the same two
cores, quiet."""


def measure_pong(*, with_rival: bool, quick: bool) -> list[Figure]:
    """Steps a CPU second with learning, and of the environments alone."""
    return [
        *learning_figures(
            with_rival=with_rival,
            lengths=(320, 480) if quick else (480, 1_280),
            rounds=1,
        ),
        Figure(
            "Pong, environments alone, stepped one after another",
            environment_rate(200 if quick else 2_000),
            "steps/CPU s",
            rival=f"gymnasium {GYMNASIUM}, ale-py's vector environment {ALE_VECTOR} (earlier run)",
        ),
    ]


def learning_figures(*, with_rival: bool, lengths: tuple[int, int], rounds: int) -> list[Figure]:
    """Steps a CPU second, beside Stable-Baselines3's where it can be installed."""
    programs = [Program(OURS, "--total-steps", FROM_HERE)]
    if with_rival and _is_there():
        programs.append(Program((SB3.python, *SB3.command), "--steps"))
    ours, *others = (1.0 / cost for cost in cpu_seconds_a_step(programs, lengths, rounds))
    theirs = others[0] if others else None
    ratio = None if theirs is None else ours / theirs
    return [
        Figure(
            "Pong with learning, this project",
            ours,
            "steps/CPU s",
            goal=f"at least {GOAL_RATIO:g} times Stable-Baselines3's",
            rival=None if theirs is None else f"{SB3.title}: {theirs:.1f}",
            ratio=ratio,
            met=None if ratio is None else ratio >= GOAL_RATIO,
        )
    ]


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
