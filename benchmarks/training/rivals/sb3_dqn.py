"""Stable-Baselines3's DQN; run by the interpreter of its own environment.

Prints one JSON object: the CPU seconds of learning, evaluations not counted, and what was reached.
"""

import argparse
import json
import time
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3 import DQN  # type: ignore[import-not-found]
from stable_baselines3.common.callbacks import BaseCallback  # type: ignore[import-not-found]
from stable_baselines3.common.evaluation import evaluate_policy  # type: ignore[import-not-found]

# rl-baselines3-zoo's hyperparameters for the environment, and the common setting.
SETTINGS: dict[str, dict[str, Any]] = {
    "common": {
        "learning_rate": 1e-3,
        "batch_size": 64,
        "buffer_size": 10_000,
        "learning_starts": 1_000,
        "gamma": 0.99,
        "target_update_interval": 1_000,
        "train_freq": 1,
        "gradient_steps": 1,
        "policy_kwargs": {"net_arch": [128, 128]},
    },
    "CartPole-v1": {
        "learning_rate": 2.3e-3,
        "batch_size": 64,
        "buffer_size": 100_000,
        "learning_starts": 1_000,
        "gamma": 0.99,
        "target_update_interval": 10,
        "train_freq": 256,
        "gradient_steps": 128,
        "exploration_fraction": 0.16,
        "exploration_final_eps": 0.04,
        "policy_kwargs": {"net_arch": [256, 256]},
    },
    "LunarLander-v3": {
        "learning_rate": 6.3e-4,
        "batch_size": 128,
        "buffer_size": 50_000,
        "learning_starts": 0,
        "gamma": 0.99,
        "target_update_interval": 250,
        "train_freq": 4,
        "gradient_steps": -1,
        "exploration_fraction": 0.12,
        "exploration_final_eps": 0.1,
        "policy_kwargs": {"net_arch": [256, 256]},
    },
}


class UntilReturn(BaseCallback):  # type: ignore[misc]
    """Evaluates every so many steps and stops at a return; keeps its own time apart."""

    def __init__(self, environment_id: str, every_steps: int, target: float) -> None:
        super().__init__()
        self.reached: float | None = None
        self.cpu_seconds = 0.0
        self._environment = gymnasium.make(environment_id)
        self._every_steps = every_steps
        self._target = target

    def _on_step(self) -> bool:
        if self.num_timesteps % self._every_steps:
            return True
        began = time.process_time()
        returns, _ = evaluate_policy(
            self.model,
            self._environment,
            20,
            deterministic=True,
            return_episode_rewards=True,
            warn=False,
        )
        self.reached = float(np.mean(returns))
        self.cpu_seconds += time.process_time() - began
        return self.reached < self._target


def main() -> None:
    """Train as the flags say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--environment", default="CartPole-v1")
    parser.add_argument("--settings", default="common")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--until", type=float)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = DQN(
        "MlpPolicy",
        gymnasium.make(options.environment),
        seed=options.seed,
        device="cpu",
        **SETTINGS[options.settings],
    )
    evaluator = None
    if options.until is not None:
        evaluator = UntilReturn(options.environment, 1_000, options.until)
    began = time.process_time()
    model.learn(options.steps, callback=evaluator)
    cpu_seconds = time.process_time() - began - (evaluator.cpu_seconds if evaluator else 0.0)
    result = {
        "cpu_seconds": cpu_seconds,
        "steps": model.num_timesteps,
        "reached": evaluator.reached if evaluator else None,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
