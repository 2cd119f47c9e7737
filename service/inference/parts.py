"""A batch whose rows belong to several versions: one call each, and one answer for all of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from contract.records import AnsweredBy
from service.inference.fallback import Chosen
from service.inference.live import Live, Ran, run
from service.inference.questions import Batch


class Part(NamedTuple):
    """The rows of a batch that one version answers."""

    live: Live
    batch: Batch
    """Only these rows; the questions stay with the first part, since they are asked once."""
    rows: npt.NDArray[np.intp] | None
    """Their places in the whole batch; None where they are all of it."""


def parts_of(batch: Batch, live: Live, withdrawn: Live | None) -> list[Part]:
    """Whose rows are whose; `live` answers those of no version, and those of the withdrawn one."""
    wanted: list[Live] = []
    for question in batch.questions:
        wanted += question.lives or [live] * question.rows
    wanted = [live if each is withdrawn else each for each in wanted]
    found = {id(each): each for each in wanted}
    if len(found) == 1:
        return [Part(wanted[0], batch, None)]
    places = np.array([id(each) for each in wanted])
    parts: list[Part] = []
    for identity, each in found.items():
        rows = np.flatnonzero(places == identity)
        masks = None if batch.action_masks is None else batch.action_masks[rows]
        questions = [] if parts else batch.questions
        parts.append(Part(each, Batch(questions, batch.observations[rows], masks), rows))
    return parts


def run_parts(parts: Sequence[Part]) -> list[Ran]:
    """Ask each version once. Safe to call from the model's own thread."""
    return [
        run(part.live.policy, part.batch.observations, part.batch.action_masks) for part in parts
    ]


def merge(parts: Sequence[Part], chosen: Sequence[Chosen]) -> Chosen:
    """What the parts were given, each row in its place."""
    if len(parts) == 1:
        return chosen[0]
    size = sum(len(each.actions) for each in chosen)
    actions = np.zeros(size, dtype=np.int64)
    propensities = np.zeros(size)
    index = np.zeros(size, dtype=np.intp)
    entries: list[AnsweredBy] = []
    width = next((each.q_values.shape[1] for each in chosen if each.q_values is not None), None)
    q_values = None if width is None else np.full((size, width), np.nan, dtype=np.float32)
    for part, each in zip(parts, chosen, strict=True):
        actions[part.rows], propensities[part.rows] = each.actions, each.propensities
        index[part.rows] = len(entries) + (0 if each.index is None else each.index)
        entries += each.answered_by
        if q_values is not None and each.q_values is not None:
            q_values[part.rows] = each.q_values
    return Chosen(actions, propensities, entries, index, q_values)
