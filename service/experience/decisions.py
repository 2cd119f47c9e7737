"""A batch of decisions as one record of the transition log."""

import numpy as np

from contract.records import Column, DecisionBatch
from service.inference.fallback import Chosen
from service.inference.questions import Batch

_FLOAT16 = np.finfo(np.float16)


def decision_record(
    policy: str,
    schema_hash: str,
    answered_at: float,
    batch: Batch,
    chosen: Chosen,
    is_late: bool,
) -> DecisionBatch:
    """The record of what was seen and done; `chosen` has a row for each row of the batch."""
    q_values = chosen.q_values
    return DecisionBatch(
        policy=policy,
        schema_hash=schema_hash,
        time=answered_at,
        decision_ids=[question.decision_id for question in batch.questions],
        row_counts=[question.rows for question in batch.questions],
        episode_ids=batch.column("episode_ids"),
        steps=batch.column("steps"),
        observations=Column.of(batch.observations),
        action_masks=None if batch.action_masks is None else Column.of(batch.action_masks),
        actions=Column.of(chosen.actions),
        propensities=Column.of(chosen.propensities.astype(np.float32)),
        # Clipped, since half precision would turn a large value into an infinity.
        q_values=None
        if q_values is None
        else Column.of(q_values.clip(_FLOAT16.min, _FLOAT16.max).astype(np.float16)),
        answered_by=chosen.answered_by,
        answered_by_index=None if chosen.index is None else chosen.index.tolist(),
        is_late=is_late,
    )
