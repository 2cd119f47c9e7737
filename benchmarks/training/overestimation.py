"""Whether Q-values tell the truth: what networks promise at the start, and what comes of it."""

import numpy as np

from benchmarks.report import Figure
from benchmarks.training.thresholds import Trained
from training.evaluate import EvaluationResult

LOWEST_RATIO, HIGHEST_RATIO = 0.95, 1.10
LARGEST_BIAS = 0.25


def ratio_figures(name: str, runs: list[Trained], vanilla: list[Trained]) -> list[Figure]:
    """Mean max-Q at the start over the mean discounted return from there, worst seed first.

    Args:
        name: Of the environment.
        runs: Double Q-learning, a run a seed.
        vanilla: DQN, likewise; shown beside.
    """
    ratios, plain = ([run.result.promise_ratio for run in each] for each in (runs, vanilla))
    is_met = all(LOWEST_RATIO <= ratio <= HIGHEST_RATIO for ratio in ratios)
    beside = f"vanilla DQN: {min(plain):.2f} to {max(plain):.2f}" if plain else None
    goal = f"{LOWEST_RATIO:g} to {HIGHEST_RATIO:g}"
    return [
        Figure(
            f"{name}: promised over discounted return, lowest seed",
            min(ratios),
            "ratio",
            goal,
            beside,
            met=is_met,
        ),
        Figure(
            f"{name}: promised over discounted return, highest seed",
            max(ratios),
            "ratio",
            goal,
            beside,
            met=is_met,
        ),
    ]


def bias_figures(name: str, runs: list[Trained], vanilla: list[Trained]) -> list[Figure]:
    """mean(Q - G) / sd(G) over starts, for returns that may be near nothing, worst seed."""
    biases, plain = ([bias(run.result) for run in each] for each in (runs, vanilla))
    worst = max(biases, key=abs)
    return [
        Figure(
            f"{name}: mean(Q - G) / sd(G) at the start, worst seed",
            worst,
            "standard deviations",
            goal=f"within {LARGEST_BIAS:g} of 0",
            rival=f"vanilla DQN: {max(plain, key=abs):.2f}" if plain else None,
            met=abs(worst) <= LARGEST_BIAS,
        )
    ]


def bias(result: EvaluationResult) -> float:
    """mean(Q - G) / sd(G) over the starts of a run's episodes."""
    promised, returns = np.array(result.start_q_values), np.array(result.start_returns)
    return float((promised - returns).mean() / returns.std())
