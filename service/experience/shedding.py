"""What the log does without first where room runs out: a declared order.

1. Late answers, which nobody acted on, and rows without an episode, which nothing is judged by.
2. Episodes of the stable version.
3. Episodes of a canary, of which there are few and a verdict waits for each.

Reports of outcomes are refused, and never shed, once nothing more is accepted at all.
"""

from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from service.inference.fallback import Chosen
from service.inference.questions import Batch, Question


class Rank(IntEnum):
    """What is worth more has the higher rank."""

    STUDY = 0
    EPISODE = 1
    CANARY = 2


SHED_FROM: Final = {Rank.STUDY: 0.90, Rank.EPISODE: 0.95, Rank.CANARY: 1.0}
"""How full the log is, as a share of what it may hold, where each is done without."""


def kept_rows(
    batch: Batch, chosen: Chosen, is_late: bool, fullness: float
) -> tuple[list[Question], npt.NDArray[np.bool_]]:
    """The questions that are logged still, and their rows, [N] of bool."""
    variants = [entry.variant for entry in chosen.answered_by]
    places = [0] * len(chosen.actions) if chosen.index is None else chosen.index.tolist()
    kept: list[Question] = []
    rows: list[bool] = []
    for question in batch.questions:
        of_rows = [variants[place] for place in places[len(rows) : len(rows) + question.rows]]
        is_kept = fullness < SHED_FROM[_rank(question, of_rows, is_late)]
        kept += [question] if is_kept else []
        rows += [is_kept] * question.rows
    return kept, np.array(rows)


def _rank(question: Question, variants: list[str], is_late: bool) -> Rank:
    """Of the most that any row of a request is worth."""
    if is_late or not any(question.episode_ids or ()):
        return Rank.STUDY
    return Rank.CANARY if "canary" in variants else Rank.EPISODE
