"""Made-up traffic whose truth is known: columns that repeat themselves within an episode."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

EPISODE_STEPS: Final = 500
ROWS_PER_EPISODE: Final = EPISODE_STEPS // 50
"""Rows of an episode that a monitor samples, at its share of one step in fifty."""

Floats = npt.NDArray[np.float32]


class Columns(NamedTuple):
    """What the columns are like, [columns] each."""

    memory: Floats
    """Correlation from one step to the next."""
    identity: Floats
    """Share of the variance that stays the same for a whole episode."""
    is_rectified: npt.NDArray[np.bool_]
    """Zero in about two rows of three, as a network's unit is."""


def mixed_columns(num_columns: int) -> Columns:
    """Quick and slow ones, some that tell episodes apart, every third rectified."""
    index = np.arange(num_columns)
    memory = np.array([0.0, 0.9, 0.97, 0.99])[index % 4]
    identity = np.array([0.0, 0.0, 0.2])[index % 3]
    return Columns(memory.astype(np.float32), identity.astype(np.float32), index % 3 == 1)


def whole_episodes(columns: Columns, num_episodes: int, rng: np.random.Generator) -> Floats:
    """Every step of episodes, [num_episodes * EPISODE_STEPS, columns]."""
    steps = np.tile(np.arange(EPISODE_STEPS), (num_episodes, 1))
    return _walk(columns, steps, rng)


def sampled_rows(columns: Columns, num_rows: int, rng: np.random.Generator) -> Floats:
    """Rows as a monitor meets them: a few of each episode, at random steps, [num_rows, columns]."""
    num_episodes = -(-num_rows // ROWS_PER_EPISODE)
    steps = np.sort(rng.integers(EPISODE_STEPS, size=(num_episodes, ROWS_PER_EPISODE)), axis=1)
    return _walk(columns, steps, rng)[:num_rows]


def _walk(columns: Columns, steps: npt.NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """A stationary autoregression seen at these steps, [num_episodes * steps, columns]."""
    num_episodes, num_steps = steps.shape
    shape = (num_episodes, len(columns.memory))
    own = rng.standard_normal(shape, dtype=np.float32) * np.sqrt(columns.identity)
    gaps = np.diff(steps, axis=1, prepend=0).astype(np.float32)
    seen = np.empty((num_episodes, num_steps, shape[1]), np.float32)
    now = rng.standard_normal(shape, dtype=np.float32)
    for step in range(num_steps):
        if step:
            kept = columns.memory ** gaps[:, step, np.newaxis]
            now = kept * now + np.sqrt(1 - kept**2) * rng.standard_normal(shape, dtype=np.float32)
        seen[:, step] = own + np.sqrt(1 - columns.identity) * now
    rows = seen.reshape(-1, shape[1])
    return np.where(columns.is_rectified, np.maximum(rows - np.float32(0.4), 0), rows)
