"""What a policy did in its own environment: the reference for drift, and the heuristic's floor."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from contract.heuristics import AnyHeuristic
from contract.manifest import Profile
from contract.profile import Played, frame_cells, profiled_elements, sum_up
from exporter.graph import ServingGraph
from training.checkpoint import Checkpoint
from training.evaluate import Rollout, collect, play

_MAX_ROUNDS: Final = 10


def collect_greedy(
    checkpoint: Checkpoint, num_episodes: int, num_observations: int, seed: int
) -> Rollout:
    """Greedy episodes of a checkpoint, in rounds of `num_episodes`.

    Rounds are added until there are `num_observations`, ten at most. Every episode that begins is
    finished: to stop at a count would favour the short ones.
    """
    rounds: list[Rollout] = []
    while (
        len(rounds) < _MAX_ROUNDS and sum(len(each.rewards) for each in rounds) < num_observations
    ):
        rounds.append(collect(checkpoint, num_episodes, epsilon=0.0, seed=seed + len(rounds)))
    return Rollout(*(np.concatenate(columns) for columns in zip(*rounds, strict=True)))


def make_profile(
    rollout: Rollout, graph: ServingGraph, training_q_maximum: float | None
) -> Profile:
    """Sum up a greedy rollout.

    Args:
        rollout: Of the network that `graph` serves.
        graph: Turns the penultimate layer into the features that are served.
        training_q_maximum: The largest |Q| that training met, exploration included.
    """
    features = graph.project(torch.from_numpy(rollout.features)).numpy()
    return profile_of(rollout, features, training_q_maximum)


def profile_of(
    rollout: Rollout, features: npt.NDArray[np.float32], training_q_maximum: float | None
) -> Profile:
    """Sum up a greedy rollout and the features that are served for it, [N, num_features]."""
    played = Played(
        profiled_elements(rollout.observations),
        frame_cells(rollout.observations),
        rollout.q_values,
        features,
        rollout.actions,
        rollout.rewards,
        rollout.returns,
        rollout.lengths,
    )
    return sum_up(played, training_q_maximum)


def heuristic_returns(
    heuristic: AnyHeuristic, environment_id: str, num_actions: int, num_episodes: int, seed: int
) -> npt.NDArray[np.float64]:
    """Undiscounted returns of the heuristic alone in the environment, [num_episodes]."""
    rng = np.random.default_rng(seed)

    def chosen_as_q_values(observations: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        masks = np.ones((len(observations), num_actions), dtype=np.bool_)
        actions, _ = heuristic.choose(observations, masks, rng)
        return np.eye(num_actions, dtype=np.float32)[actions]

    episodes = play(chosen_as_q_values, environment_id, num_episodes, epsilon=0.0, seed=seed)
    return np.array([episode.rewards.sum(dtype=np.float64) for episode in episodes])
