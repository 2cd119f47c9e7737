"""Tianshou's DQN at the common setting; run by the interpreter of its own environment."""

import argparse

import gymnasium
import numpy as np
import torch
from tianshou.algorithm.modelfree.dqn import DQN, DiscreteQLearningPolicy  # type: ignore[import-not-found]
from tianshou.algorithm.optim import AdamOptimizerFactory  # type: ignore[import-not-found]
from tianshou.data import Collector, CollectStats, VectorReplayBuffer  # type: ignore[import-not-found]
from tianshou.env import DummyVectorEnv  # type: ignore[import-not-found]
from tianshou.trainer import OffPolicyTrainerParams  # type: ignore[import-not-found]
from tianshou.utils.net.common import Net  # type: ignore[import-not-found]

LEARNING_STARTS = 1_000


def main() -> None:
    """Train for as many steps as the flags say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    np.random.seed(options.seed)
    environments = DummyVectorEnv([lambda: gymnasium.make("CartPole-v1")])
    environment = gymnasium.make("CartPole-v1")
    policy = DiscreteQLearningPolicy(
        model=Net(state_shape=(4,), action_shape=2, hidden_sizes=[128, 128]),
        action_space=environment.action_space,
        observation_space=environment.observation_space,
        eps_training=0.1,
    )
    algorithm = DQN(
        policy=policy,
        optim=AdamOptimizerFactory(lr=1e-3),
        gamma=0.99,
        n_step_return_horizon=1,
        target_update_freq=1_000,
        huber_loss_delta=1.0,
    )
    buffer = VectorReplayBuffer(10_000, buffer_num=1)
    collector = Collector[CollectStats](algorithm, environments, buffer, exploration_noise=True)
    collector.reset()
    collector.collect(n_step=LEARNING_STARTS, random=True)
    algorithm.run_training(
        OffPolicyTrainerParams(
            training_collector=collector,
            max_epochs=1,
            epoch_num_steps=options.steps - LEARNING_STARTS,
            collection_step_num_env_steps=1,
            batch_size=64,
            update_step_num_gradient_steps_per_sample=1.0,
            verbose=False,
            show_progress=False,
        )
    )


if __name__ == "__main__":
    main()
