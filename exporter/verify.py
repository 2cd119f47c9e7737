"""The exported graph answers as the network does, at several batch sizes."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from contract.declaration import legal_actions
from contract.manifest import Parity
from service.inference.policy import Decided

PARITY_BATCHES: Final = (1, 7, 64)
"""A graph with a frozen batch axis answers at one of these at most."""
Q_TOLERANCE: Final = 1e-4
"""Largest |exported - source| / max(1, |source|) of a Q-value."""

Masks = npt.NDArray[np.bool_]
Decide = Callable[[npt.NDArray[Any], Masks | None], Decided]


class ParityError(Exception):
    """The exported graph does not answer as the network that it came from."""


def check_parity(
    source: Decide,
    exported: Decide,
    observations: npt.NDArray[Any],
    action_masks: Masks | None = None,
) -> Parity:
    """Ask both for the same observations, in batches of each of `PARITY_BATCHES`.

    Args:
        source: The network.
        exported: The graph, through the runtime that will serve it.
        observations: From the environment, [N, *shape]; N is at least the largest batch.
        action_masks: [N, num_actions], for policies that are masked.

    Raises:
        ParityError: Q-values differ by more than the tolerance, or an action differs that is no
            near-tie.
    """
    if len(observations) < max(PARITY_BATCHES):
        raise ValueError(f"{len(observations)} observations do not fill {max(PARITY_BATCHES)}")
    expected = source(observations, action_masks)
    scale = np.maximum(1.0, np.abs(expected.q_values))
    gaps = _gaps(expected.q_values, action_masks)
    tolerances = Q_TOLERANCE * scale.max(axis=1)
    largest_difference, differing = 0.0, np.zeros(len(observations), dtype=np.bool_)
    for batch in PARITY_BATCHES:
        found = _in_batches(exported, observations, action_masks, batch)
        difference = float((np.abs(found.q_values - expected.q_values) / scale).max())
        # Written so that a NaN, which compares false, is refused.
        if not difference <= Q_TOLERANCE:
            raise ParityError(
                f"q_values at batch {batch} differ by {difference:.3g}, "
                f"allowed is {Q_TOLERANCE:g} of max(1, |q|)"
            )
        lost = np.take_along_axis(gaps, found.actions[:, np.newaxis], axis=1)[:, 0]
        wrong = lost > tolerances
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise ParityError(
                f"at batch {batch}, {wrong.sum()} actions differ that are no near-ties; the first "
                f"is {found.actions[row]}, expected {expected.actions[row]} "
                f"of q_values {expected.q_values[row].tolist()}"
            )
        largest_difference = max(largest_difference, difference)
        differing |= found.actions != expected.actions
    runner_up_gaps = np.sort(gaps, axis=1)[:, 1]
    return Parity(
        batches=PARITY_BATCHES,
        max_q_difference=largest_difference,
        actions_differing=int(differing.sum()),
        near_ties=int((runner_up_gaps <= tolerances).sum()),
    )


def _gaps(q_values: npt.NDArray[np.float32], action_masks: Masks | None) -> npt.NDArray[Any]:
    """How far each action is below the best legal one, infinite if illegal, [N, num_actions]."""
    masks = legal_actions(action_masks, *q_values.shape)
    legal = np.where(masks, q_values, -np.inf)
    gaps: npt.NDArray[Any] = legal.max(axis=1, keepdims=True) - legal
    return gaps


def _in_batches(
    decide: Decide, observations: npt.NDArray[Any], action_masks: Masks | None, batch: int
) -> Decided:
    parts = [
        decide(
            observations[start : start + batch],
            None if action_masks is None else action_masks[start : start + batch],
        )
        for start in range(0, len(observations), batch)
    ]
    return Decided(
        np.concatenate([part.actions for part in parts]),
        np.concatenate([part.q_values for part in parts]),
    )
