from pathlib import Path
from typing import Any

from training.apex.config import ApexConfig


def apex_config(out: Path, **changes: Any) -> ApexConfig:
    """A short run of CartPole on two actors and two shards."""
    fields: dict[str, Any] = {
        "out": out,
        "environment_id": "CartPole-v1",
        "seed": 3,
        "num_actors": 2,
        "num_shards": 2,
        "num_environments": 3,
        "steps_per_walk": 8,
        "hidden_sizes": (16, 16),
        "n_step": 3,
        "discount": 0.9,
        "normalise_observations": False,
        "total_steps": 3_000,
        "learning_starts": 200,
        "batch_size": 16,
        "replay_capacity": 480,
        "steps_between_updates": 12,
        "updates_per_round": 3,
        "keep_ratio": True,
        "publish_every_updates": 10,
        "evaluation_every_steps": 100_000,
        "evaluation_episodes": 2,
        "tensorboard": False,
    }
    return ApexConfig(**(fields | changes))
