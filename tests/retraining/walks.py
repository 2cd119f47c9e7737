"""A walk whose returns can be computed, logged by a policy that explores.

From cell 0 an episode takes six steps, and each pays 1 where the action is 1, else 0: a policy's
undiscounted return is the number of ones. Observations are [cell, 1].
"""

from typing import Any

import numpy as np
import torch

from training.network import NetworkConfig, QNetwork, initialise
from training.offline_log import LoggedSteps, epsilon_greedy_probabilities

STEPS = 6


def walk_log(
    episodes: int, epsilon: float, rng: np.random.Generator, **changes: Any
) -> LoggedSteps:
    """Logged by the policy that does 1 in cells 0, 1 and 2 and 0 afterwards."""
    number = episodes * STEPS
    cells = np.tile(np.arange(STEPS), episodes)
    preferred = (cells < STEPS // 2).astype(np.int64)
    explores = rng.random(number) < epsilon
    actions = np.where(explores, rng.integers(2, size=number), preferred)
    legal = np.ones((number, 2), np.bool_)
    epsilons = np.full(number, epsilon, np.float32)
    fields: dict[str, Any] = {
        "observations": np.stack([cells, cells * 0 + 1], axis=1).astype(np.float32),
        "actions": actions,
        "rewards": actions.astype(np.float32),
        "next_observations": np.stack([cells + 1, cells * 0 + 1], axis=1).astype(np.float32),
        "has_next_observations": np.ones(number, np.bool_),
        "terminated": cells == STEPS - 1,
        "truncated": np.zeros(number, np.bool_),
        "legal_actions": legal,
        "behaviour_probabilities": epsilon_greedy_probabilities(preferred, epsilons, legal),
        "is_preferred": actions == preferred,
        "is_policy": np.ones(number, np.bool_),
        "episodes": np.repeat(np.arange(episodes, dtype=np.int32), STEPS),
        "steps": cells.astype(np.int32),
        "weights": np.ones(number, np.float32),
    }
    return LoggedSteps(**(fields | changes))


@torch.no_grad()
def walker(ones_below: float) -> QNetwork:
    """Does 1 in cells below `ones_below`, else 0."""
    network = QNetwork(
        NetworkConfig(
            observation_shape=(2,),
            num_actions=2,
            hidden_sizes=(4,),
            dueling=False,
            normalise_observations=False,
        )
    )
    initialise(network, torch.Generator().manual_seed(0))
    parameters = dict(network.named_parameters())
    for value in parameters.values():
        value.zero_()
    # One unit is the cell; action 0 is worth it, action 1 is worth the border.
    parameters["layers.0.weight"][0, 0] = 1.0
    parameters["head.actions.weight"][0, 0] = 1.0
    parameters["head.actions.bias"][1] = ones_below - 0.5
    return network.eval()
