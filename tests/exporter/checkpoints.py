"""Small real checkpoints: CartPole, a random network, made-up statistics."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from contract.manifest import RewardTransform
from training.checkpoint import (
    Checkpoint,
    CheckpointMetadata,
    TrainingStatistics,
    write_checkpoint,
)
from training.environments import describe_environment
from training.moments import Moments
from training.network import NetworkConfig, QNetwork, initialise

ENVIRONMENT_ID = "CartPole-v1"
TRAINING_Q_MAXIMUM = 50.0
"""Beyond what a random network gives."""


def network(
    hidden_sizes: tuple[int, ...] = (16, 96), num_actions: int = 2, **changes: Any
) -> QNetwork:
    """A random network whose normalisation changes every Q-value a great deal."""
    fields: dict[str, Any] = {
        "observation_shape": (4,),
        "num_actions": num_actions,
        "hidden_sizes": hidden_sizes,
        "dueling": False,
        "normalise_observations": True,
    }
    made = QNetwork(NetworkConfig(**(fields | changes)))
    initialise(made, torch.Generator().manual_seed(3))
    if made.normalisation is not None:
        size = made.normalisation.mean.numel()
        made.normalisation.mean.copy_(
            torch.linspace(-0.5, 0.5, size).reshape(made.normalisation.mean.shape)
        )
        made.normalisation.scale.fill_(8.0)
    return made.eval()


def moments(minimum: float, maximum: float) -> Moments:
    return Moments(
        count=100, mean=(minimum + maximum) / 2, sd=1.0, minimum=minimum, maximum=maximum
    )


def metadata(made: QNetwork | None = None, **changes: Any) -> CheckpointMetadata:
    spec = describe_environment(ENVIRONMENT_ID)
    fields: dict[str, Any] = {
        "environment_id": ENVIRONMENT_ID,
        "observation": spec.observation,
        "num_actions": spec.num_actions,
        "network": (made or network()).config,
        "discount": 0.99,
        "n_step": 1,
        "reward_transform": RewardTransform(),
        "statistics": TrainingStatistics(
            returns=moments(9.0, 200.0),
            lengths=moments(9.0, 200.0),
            rewards=moments(1.0, 1.0),
            absolute_q_values=moments(0.0, TRAINING_Q_MAXIMUM),
        ),
        "evaluation_return": 30.0,
        "config": {"out": "/somewhere/on/this/machine", "learning_rate": 0.25},
        "seed": 11,
        "steps": 12_345,
        "updates": 678,
        "episodes": 90,
        "wall_seconds": 1.5,
        "cpu_seconds": 1.25,
        "created_at": "2025-01-01T00:00:00+00:00",
        "versions": {"torch": "9.8.7"},
        "git_revision": "abc123",
    }
    return CheckpointMetadata(**(fields | changes))


def checkpoint(made: QNetwork | None = None, **changes: Any) -> Checkpoint:
    made = made or network()
    return Checkpoint(metadata(made, **changes), made)


def write_small_checkpoint(folder: Path, made: QNetwork | None = None, **changes: Any) -> Path:
    """Through the real format; returns the folder."""
    small = checkpoint(made, **changes)
    write_checkpoint(folder, small.metadata, small.network)
    return folder


def observations(rows: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Like CartPole's, [rows, 4]."""
    return np.random.default_rng(5).normal(scale=0.5, size=(rows, 4)).astype(np.float32)
