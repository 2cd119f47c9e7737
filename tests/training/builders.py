"""Small real things for training's tests: an environment one can compute, configs, batches."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch

from training.config import TrainingConfig
from training.network import NetworkConfig, QNetwork, initialise
from training.replay import Transitions

CORRIDOR = "tests/Corridor-v0"
CORRIDOR_LENGTH = 6
CORRIDOR_TIME_LIMIT = 5


class Corridor(gymnasium.Env[npt.NDArray[np.float32], np.int64]):
    """Walk to cell 6 within 5 steps; the reward of a step is the cell it leads to.

    An episode begins in a cell in 0..3 that its seed decides. Action 1 goes on, 0 stays.
    Observations are [cell, steps].
    """

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(
            np.array([0.0, -np.inf], np.float32), np.array([6.0, np.inf], np.float32)
        )
        self.action_space = gymnasium.spaces.Discrete(2)
        self._cell = self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self._cell, self._steps = int(self.np_random.integers(4)), 0
        return self._observe(), {}

    def step(
        self, action: np.int64
    ) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self._cell += int(action)
        self._steps += 1
        return self._observe(), float(self._cell), self._cell == CORRIDOR_LENGTH, False, {}

    def _observe(self) -> npt.NDArray[np.float32]:
        return np.array([self._cell, self._steps], np.float32)


def register_corridor() -> None:
    """Make `CORRIDOR` known to gymnasium."""
    if CORRIDOR not in gymnasium.registry:
        gymnasium.register(CORRIDOR, lambda **_: Corridor(), max_episode_steps=CORRIDOR_TIME_LIMIT)


def training_config(out: Path, **changes: Any) -> TrainingConfig:
    """A run of CartPole that takes a second and uses every part of a run."""
    fields: dict[str, Any] = {
        "out": out,
        "environment_id": "CartPole-v1",
        "seed": 3,
        "total_steps": 800,
        "num_environments": 4,
        "hidden_sizes": (16, 16),
        "batch_size": 16,
        "learning_starts": 200,
        "replay_capacity": 500,
        "normalisation_steps": 300,
        "epsilon_steps": 400,
        "target_sync_steps": 64,
        "steps_between_updates": 16,
        "updates_per_round": 4,
        "evaluation_every_steps": 400,
        "evaluation_episodes": 2,
        "checkpoint_every_steps": 400,
        "tensorboard": False,
    }
    return TrainingConfig(**(fields | changes))


def q_network(seed: int = 1, **changes: Any) -> QNetwork:
    """A network of 4 observations and 3 actions with weights drawn from `seed`."""
    fields: dict[str, Any] = {
        "observation_shape": (4,),
        "num_actions": 3,
        "hidden_sizes": (8, 6),
        "dueling": False,
        "normalise_observations": False,
    }
    network = QNetwork(NetworkConfig(**(fields | changes)))
    initialise(network, torch.Generator().manual_seed(seed))
    if network.normalisation is not None:
        network.normalisation.mean.copy_(torch.tensor([0.5, -1.0, 2.0, 0.0]))
        network.normalisation.scale.copy_(torch.tensor([2.0, 0.5, 1.0, 40.0]))
    return network


def numbered_transitions(first: int, count: int) -> Transitions:
    """Transitions whose every field tells their number: reward n, observation [n, n + 0.5], …"""
    numbers = np.arange(first, first + count)
    return Transitions(
        observations=np.stack([numbers, numbers + 0.5], axis=1).astype(np.float32),
        actions=numbers % 5,
        rewards=numbers.astype(np.float32),
        next_observations=np.stack([numbers + 1, numbers + 1.5], axis=1).astype(np.float32),
        terminated=numbers % 3 == 0,
        truncated=numbers % 7 == 0,
    )
