"""What a policy did in its own environment: the reference for drift, and the heuristic's floor."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from contract.conduct import ConductReference, make_reference, observation_cells
from contract.drift_reference import ColumnReference, DriftReference, make_columns
from contract.heuristics import AnyHeuristic
from contract.manifest import Distribution, Profile
from exporter.graph import ServingGraph
from training.checkpoint import Checkpoint
from training.evaluate import Rollout, collect, play

MAX_PROFILED_ELEMENTS: Final = 512
"""Observations with more elements are frames: their drift is judged by the features alone."""

_MAX_ROUNDS: Final = 10
_INNER_DECILES: Final = np.arange(1, 10) / 10


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
    drift = drift_reference(rollout, features)
    frequencies = np.bincount(rollout.actions, minlength=rollout.q_values.shape[1])
    served_q_maximum = float(np.abs(rollout.q_values).max())
    return Profile(
        episode_return=summarise(rollout.returns),
        episode_length=summarise(rollout.lengths),
        reward=summarise(rollout.rewards),
        max_q=summarise(rollout.q_values.max(axis=1)),
        absolute_q_maximum=max(served_q_maximum, training_q_maximum or 0.0),
        observation_deciles=_observation_deciles(rollout.observations),
        feature_deciles=_deciles(features),
        q_value_deciles=_deciles(rollout.q_values),
        action_frequencies=tuple((frequencies / len(rollout.actions)).tolist()),
        num_observations=len(rollout.actions),
        drift=drift,
        conduct=_conduct_reference(rollout, () if drift is None else drift.observations),
    )


def drift_reference(rollout: Rollout, features: npt.NDArray[np.float32]) -> DriftReference | None:
    """What drift is judged by; None where the episodes are too few to tell.

    Args:
        rollout: Whole episodes.
        features: As they are served, [N, features].
    """
    flat = rollout.observations.reshape(len(rollout.observations), -1)
    watched = flat if flat.shape[1] <= MAX_PROFILED_ELEMENTS else flat[:, :0]
    reference = DriftReference(
        observations=make_columns(watched, rollout.lengths),
        features=make_columns(features, rollout.lengths),
        q_values=make_columns(rollout.q_values, rollout.lengths),
    )
    return reference if reference.q_values else None


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


def summarise(sample: npt.ArrayLike) -> Distribution:
    """A one-dimensional sample summed up."""
    values = np.asarray(sample, dtype=np.float64)
    return Distribution(
        count=len(values),
        mean=float(values.mean()),
        sd=float(values.std()),
        minimum=float(values.min()),
        maximum=float(values.max()),
        deciles=_deciles(values[:, np.newaxis])[0],
    )


def _conduct_reference(
    rollout: Rollout, columns: tuple[ColumnReference, ...]
) -> ConductReference | None:
    is_frames = rollout.observations.ndim > 2
    if not columns and not is_frames:
        return None
    return make_reference(
        rollout.rewards.astype(np.float64),
        rollout.actions,
        observation_cells(rollout.observations, columns),
        rollout.lengths,
    )


def _observation_deciles(observations: npt.NDArray[Any]) -> tuple[tuple[float, ...], ...]:
    flat = observations.reshape(len(observations), -1)
    return _deciles(flat) if flat.shape[1] <= MAX_PROFILED_ELEMENTS else ()


def _deciles(columns: npt.NDArray[Any]) -> tuple[tuple[float, ...], ...]:
    """Nine inner deciles of each column, [columns][9]."""
    deciles = np.quantile(columns.astype(np.float64), _INNER_DECILES, axis=0)
    return tuple(tuple(column) for column in deciles.T.tolist())
