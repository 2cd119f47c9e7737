"""One row of a decision batch, by itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from contract.records import AnsweredBy, DecisionBatch, row_names
from contract.transitions import Circumstances


@dataclass(frozen=True)
class Decided:
    """One row of a decision batch. Its arrays are copies, so that it does not hold the batch."""

    name: str
    """`<decision_id>/<row>`."""
    policy: str
    schema_hash: str
    time: float
    observation: npt.NDArray[Any]
    """[*shape]; of a stack that came as one frame, that frame."""
    frame_stack: int
    """Above 1: the observation is the newest frame of a stack of so many."""
    action: int
    propensity: float
    answered_by: AnsweredBy
    q_values: npt.NDArray[np.float16] | None
    circumstances: Circumstances


def decided_rows(batch: DecisionBatch) -> Iterator[tuple[str | None, int | None, Decided]]:
    """(episode id, step, decision) of each row."""
    observations, actions = batch.observations.array(), batch.actions.array()
    propensities = batch.propensities.array()
    q_values = None if batch.q_values is None else batch.q_values.array()
    masks = None if batch.action_masks is None else batch.action_masks.array()
    index = batch.answered_by_index
    for row, name in enumerate(row_names(batch)):
        decided = Decided(
            name=name,
            policy=batch.policy,
            schema_hash=batch.schema_hash,
            time=batch.time,
            observation=observations[row].copy(),
            frame_stack=batch.frame_stack,
            action=int(actions[row]),
            propensity=float(propensities[row]),
            answered_by=batch.answered_by[0 if index is None else index[row]],
            q_values=None if q_values is None else q_values[row].copy(),
            circumstances=Circumstances(
                action_mask=None if masks is None else masks[row].copy(),
                epsilon=batch.epsilon,
                tags=None if batch.tags is None else batch.tags[row],
                logged_share=batch.logged_share,
                salt=None if batch.salts is None else batch.salts[row],
            ),
        )
        yield batch.episode_ids[row], batch.steps[row], decided
