"""A process of `test_distributed`: learns from its share of batches that every process draws."""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from tests.training.builders import training_config
from training.distributed import average_gradients, begin_alike, process_group, share_of
from training.learner import Learner
from training.network import NetworkConfig
from training.replay import ReplayBuffer, Transitions

NUM_UPDATES = 20


def learn(out: Path) -> None:
    """Write what this process has learned to `out/<rank>.safetensors`."""
    config = training_config(
        out, batch_size=32, gradient_norm_limit=0.05, normalise_observations=False
    )
    network = NetworkConfig(
        observation_shape=(4,),
        num_actions=2,
        hidden_sizes=(16, 16),
        dueling=True,
        normalise_observations=False,
    )
    with process_group("cpu") as here:
        # Other weights in each process, until they begin alike.
        learner = Learner(network, config, torch.Generator().manual_seed(here.rank))
        begin_alike(learner.online_network, here)
        learner.sync_target()
        average_gradients(learner.online_network, here)
        rng = np.random.default_rng(7)
        replay = ReplayBuffer(200, (4,), np.float32)
        replay.add(_transitions(200, rng))
        for _ in range(NUM_UPDATES):
            learner.update(share_of(replay.sample(32, rng), here))
        save_file(
            {"online": learner.tensors()["online"].detach()}, out / f"{here.rank}.safetensors"
        )


def _transitions(count: int, rng: np.random.Generator) -> Transitions:
    return Transitions(
        observations=rng.normal(size=(count, 4)).astype(np.float32),
        actions=rng.integers(2, size=count),
        rewards=rng.normal(size=count).astype(np.float32) * 10,
        next_observations=rng.normal(size=(count, 4)).astype(np.float32),
        terminated=rng.random(count) < 0.2,
        truncated=np.zeros(count, np.bool_),
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    learn(Path(sys.argv[1]))
