"""Small logs to learn from, made by hand."""

from typing import Any

import numpy as np

from training.offline_log import LoggedSteps

NUM_ACTIONS = 2


def logged_steps(number: int, **changes: Any) -> LoggedSteps:
    """One episode of `number` greedy steps; observation n is [n, 0], the reward n + 1."""
    numbers = np.arange(number)
    fields: dict[str, Any] = {
        "observations": np.stack([numbers, 0 * numbers], axis=1).astype(np.float32),
        "actions": np.zeros(number, np.int64),
        "rewards": (numbers + 1).astype(np.float32),
        "next_observations": np.stack([numbers + 1, 0 * numbers], axis=1).astype(np.float32),
        "has_next_observations": np.ones(number, np.bool_),
        "terminated": numbers == number - 1,
        "truncated": np.zeros(number, np.bool_),
        "legal_actions": np.ones((number, NUM_ACTIONS), np.bool_),
        "behaviour_probabilities": np.tile(np.array([1, 0], np.float32), (number, 1)),
        "is_preferred": np.ones(number, np.bool_),
        "is_policy": np.ones(number, np.bool_),
        "episodes": np.zeros(number, np.int32),
        "steps": numbers.astype(np.int32),
        "weights": np.ones(number, np.float32),
    }
    return LoggedSteps(**(fields | changes))


def two_way_log(number: int, rng: np.random.Generator, **changes: Any) -> LoggedSteps:
    """Episodes of one step that mostly take action 0, worth 1, and sometimes 1, worth 3."""
    actions = (rng.random(number) < 0.2).astype(np.int64)
    fields: dict[str, Any] = {
        "observations": rng.normal(size=(number, 2)).astype(np.float32),
        "actions": actions,
        "rewards": (1.0 + 2.0 * actions).astype(np.float32),
        "terminated": np.ones(number, np.bool_),
        "behaviour_probabilities": np.tile(np.array([0.8, 0.2], np.float32), (number, 1)),
        "is_preferred": actions == 0,
        "episodes": np.arange(number, dtype=np.int32),
        "steps": np.zeros(number, np.int32),
    }
    return logged_steps(number, **(fields | changes))
