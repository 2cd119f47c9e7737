"""What whole episodes add up to: the reference that drift, falls and hacking are judged by.

Made at export from episodes in the training environment, or later from the log of a version whose
bundle has none: by the same sums, so that both are held to the same limits.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from contract.conduct import ConductReference, make_reference, observation_cells
from contract.drift_reference import ColumnReference, DriftReference, Floats, make_columns
from contract.manifest import Distribution, Profile

MAX_PROFILED_ELEMENTS: Final = 512
"""Observations with more elements are frames: their drift is judged by the features alone."""

_INNER_DECILES: Final = np.arange(1, 10) / 10


class Played(NamedTuple):
    """Whole episodes, one after another; N steps in all."""

    observations: npt.NDArray[Any]
    """[N, elements], as `profiled_elements` gives them; no elements of frames."""
    cells: npt.NDArray[np.int64] | None
    """A coarse name for each frame, [N]; None where observations have elements."""
    q_values: npt.NDArray[np.float32]
    """[N, num_actions]."""
    features: npt.NDArray[np.float32]
    """As they are served, [N, features]."""
    actions: npt.NDArray[np.int64]
    rewards: npt.NDArray[np.floating]
    """The environment's own, [N]."""
    returns: npt.NDArray[np.floating]
    """Undiscounted, of each episode."""
    lengths: npt.NDArray[np.int64]
    """Steps of each episode; they add up to N."""
    audits: Floats | None = None
    """Of each episode: how it did in something that its reward does not pay for."""


def sum_up(played: Played, training_q_maximum: float | None) -> Profile:
    """Sum up episodes, one at least.

    Args:
        played: Of the network that is served.
        training_q_maximum: The largest |Q| that training met, exploration included.
    """
    drift = _drift_reference(played)
    frequencies = np.bincount(played.actions, minlength=played.q_values.shape[1])
    return Profile(
        episode_return=summarise(played.returns),
        episode_length=summarise(played.lengths),
        reward=summarise(played.rewards),
        max_q=summarise(played.q_values.max(axis=1)),
        absolute_q_maximum=max(float(np.abs(played.q_values).max()), training_q_maximum or 0.0),
        observation_deciles=_deciles(played.observations),
        feature_deciles=_deciles(played.features),
        q_value_deciles=_deciles(played.q_values),
        action_frequencies=tuple((frequencies / len(played.actions)).tolist()),
        num_observations=len(played.actions),
        drift=drift,
        conduct=_conduct_reference(played, () if drift is None else drift.observations),
    )


def profiled_elements(observations: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The columns of [N, ...] that are summed up, [N, elements]; none of frames."""
    flat = observations.reshape(len(observations), -1)
    return flat if flat.shape[1] <= MAX_PROFILED_ELEMENTS else flat[:, :0]


def frame_cells(observations: npt.NDArray[Any]) -> npt.NDArray[np.int64] | None:
    """A coarse name for each frame of [N, ...]; None for what is no frame."""
    if observations.ndim <= 2 or observations[0].size <= MAX_PROFILED_ELEMENTS:
        return None
    return observation_cells(observations, ())


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


def _drift_reference(played: Played) -> DriftReference | None:
    """None where the episodes are too few to tell."""
    reference = DriftReference(
        observations=make_columns(played.observations, played.lengths),
        features=make_columns(played.features, played.lengths),
        q_values=make_columns(played.q_values, played.lengths),
    )
    return reference if reference.q_values else None


def _conduct_reference(
    played: Played, columns: tuple[ColumnReference, ...]
) -> ConductReference | None:
    cells = played.cells
    if cells is None and not columns:
        return None
    if cells is None:
        cells = observation_cells(played.observations, columns)
    rewards = played.rewards.astype(np.float64)
    return make_reference(rewards, played.actions, cells, played.lengths, played.audits)


def _deciles(columns: npt.NDArray[Any]) -> tuple[tuple[float, ...], ...]:
    """Nine inner deciles of each column, [columns][9]."""
    deciles = np.quantile(columns.astype(np.float64), _INNER_DECILES, axis=0)
    return tuple(tuple(column) for column in deciles.T.tolist())
