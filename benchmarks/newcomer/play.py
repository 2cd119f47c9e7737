"""An agent that lives on CartPole until it is stopped: `python play.py SERVER POLICY SEED`."""

import sys

import gymnasium

from dqn_client import Client


def main(server: str, policy: str, seed: int) -> None:
    """Play episode after episode."""
    environment = gymnasium.make("CartPole-v1", max_episode_steps=50)
    environment.reset(seed=seed)
    with Client(server) as client:
        while True:
            observation, _ = environment.reset()
            episode = client.episode(policy)
            while not episode.is_over:
                action = episode.act(observation)
                observation, reward, terminated, truncated, _ = environment.step(action)
                episode.reward(float(reward), terminated, truncated, observation)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
