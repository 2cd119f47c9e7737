"""Stable-Baselines3's DQN on Pong; run by the interpreter of its own environment.

The wrappers, the network and the replay are its own, the settings rl-baselines3-zoo's for Atari
but for the length of the run and the size of the replay.
"""

import argparse

import ale_py
import gymnasium
import torch
from stable_baselines3 import DQN  # type: ignore[import-not-found]
from stable_baselines3.common.env_util import make_atari_env  # type: ignore[import-not-found]
from stable_baselines3.common.vec_env import VecFrameStack  # type: ignore[import-not-found]


def main() -> None:
    """Train for so many steps."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--environments", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    gymnasium.register_envs(ale_py)
    environments = VecFrameStack(
        make_atari_env(
            "ALE/Pong-v5",
            n_envs=options.environments,
            seed=0,
            env_kwargs={"frameskip": 1, "repeat_action_probability": 0.0},
        ),
        n_stack=4,
    )
    # SB3 counts steps of all environments together; `train_freq` counts those of each.
    steps_of_each = 32 // options.environments
    model = DQN(
        "CnnPolicy",
        environments,
        learning_rate=1e-4,
        batch_size=32,
        buffer_size=5_000,
        learning_starts=200,
        train_freq=steps_of_each,
        gradient_steps=8,
        target_update_interval=1_000,
        exploration_fraction=0.1,
        exploration_final_eps=0.01,
        optimize_memory_usage=False,
        seed=0,
        device="cpu",
    )
    model.learn(options.steps)


if __name__ == "__main__":
    main()
