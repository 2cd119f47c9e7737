"""d3rlpy's offline learning and its fitted Q evaluation, run by the interpreter of its environment.

Prints one JSON object: CPU and wall seconds of learning and of DiscreteFQE, mean return of the last
step's greedy policy, and what DiscreteFQE says of it beside what came of it, discounted.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import d3rlpy  # type: ignore[import-not-found]
import gymnasium
import numpy as np
import torch

_FIRST_SEED = 1_000_000
_HIDDEN = [64, 64]
_TARGET_UPDATES = 200
_METHODS = {
    "cql": d3rlpy.algos.DiscreteCQLConfig,
    "double": d3rlpy.algos.DoubleDQNConfig,
}


def main() -> None:
    """Learn from a log that an `.npz` file holds, and play what was learned."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("--method", choices=sorted(_METHODS), required=True)
    parser.add_argument("--updates", type=int, default=10_000)
    parser.add_argument("--evaluation-updates", type=int, default=10_000, help="of DiscreteFQE")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--discount", type=float, default=0.99)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    d3rlpy.seed(options.seed)
    with np.load(options.log) as columns:
        dataset = d3rlpy.dataset.MDPDataset(
            columns["observations"],
            columns["actions"].reshape(-1, 1),
            columns["rewards"].reshape(-1, 1),
            columns["terminated"].astype(np.float32),
            columns["truncated"].astype(np.float32),
        )
        scale = float(np.abs(columns["rewards"]).max())
    encoder = d3rlpy.models.encoders.VectorEncoderFactory(_HIDDEN)
    config = _METHODS[options.method](
        learning_rate=1e-3,
        batch_size=128,
        gamma=options.discount,
        # The default, 8,000, would copy once in 10,000 updates.
        target_update_interval=_TARGET_UPDATES,
        encoder_factory=encoder,
    )
    algorithm = config.create(device=False)
    cpu_seconds, wall_seconds = _fit(algorithm, dataset, options.updates)
    starts, returns, discounted = _play(algorithm, options.episodes, options.discount)
    evaluation = d3rlpy.ope.DiscreteFQE(
        algo=algorithm,
        config=d3rlpy.ope.FQEConfig(
            learning_rate=1e-3, batch_size=128, gamma=options.discount, encoder_factory=encoder
        ),
        device=False,
    )
    evaluation_cpu_seconds, evaluation_wall_seconds = _fit(
        evaluation, dataset, options.evaluation_updates
    )
    estimates = evaluation.predict_value(starts, algorithm.predict(starts))
    told = {
        "cpu_seconds": cpu_seconds,
        "wall_seconds": wall_seconds,
        "mean_return": float(np.mean(returns)),
        "discounted_return": float(np.mean(discounted)) * scale,
        "estimate": float(np.mean(estimates)),
        "highest_possible": scale / (1 - options.discount),
        "evaluation_cpu_seconds": evaluation_cpu_seconds,
        "evaluation_wall_seconds": evaluation_wall_seconds,
    }
    print(json.dumps(told))


def _fit(learner: Any, dataset: Any, updates: int) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    learner.fit(
        dataset,
        n_steps=updates,
        n_steps_per_epoch=updates,
        show_progress=False,
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
    )
    return time.process_time() - cpu, time.perf_counter() - wall


def _play(
    algorithm: Any, num_episodes: int, discount: float
) -> tuple[np.ndarray[Any, Any], list[float], list[float]]:
    """First observations, returns and discounted returns, where each step pays 1."""
    environment = gymnasium.make("CartPole-v1")
    starts, returns, discounted = [], [], []
    for episode in range(num_episodes):
        observation, _ = environment.reset(seed=_FIRST_SEED + episode)
        starts.append(observation)
        length, is_over = 0, False
        while not is_over:
            action = int(algorithm.predict(observation[np.newaxis])[0])
            observation, _, terminated, truncated, _ = environment.step(action)
            length, is_over = length + 1, bool(terminated or truncated)
        returns.append(float(length))
        discounted.append((1 - discount**length) / (1 - discount))
    return np.stack(starts).astype(np.float32), returns, discounted


if __name__ == "__main__":
    main()
