"""Run by Stable-Baselines3's own environment: the model that a newcomer brings along.

`python their_model.py MODEL.zip`
"""

import sys

from stable_baselines3 import DQN  # type: ignore[import-not-found]


def main(path: str) -> None:
    """Train briefly: how good it is does not matter here."""
    DQN("MlpPolicy", "CartPole-v1", learning_starts=500, seed=1).learn(3_000).save(path)


if __name__ == "__main__":
    main(sys.argv[1])
