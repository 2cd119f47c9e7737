"""What a request asks of a policy, what it is told, and how questions share a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from contract.records import AnsweredBy
from service.errors import FallbackRefusedError, ServiceError
from service.inference.fallback import Chosen

OnFallback = Literal["heuristic", "error"]


@dataclass(slots=True)
class Answer:
    """What one question is told; its N rows are the question's."""

    actions: list[int]
    propensities: list[float]
    answered_by: list[AnsweredBy]
    index: list[int] | None
    """Row to entry of `answered_by`; None where the one entry fits all rows."""
    q_values: npt.NDArray[np.float32] | None
    """[N, num_actions], NaN in rows the model did not answer; None where it answered none."""


Told = Callable[[Answer | ServiceError], None]


@dataclass(slots=True, eq=False)
class Question:
    """One request's rows. `told` is called once, on the event loop."""

    decision_id: str
    observations: npt.NDArray[Any]
    """[N, *shape] in the policy's dtype."""
    action_masks: npt.NDArray[np.bool_] | None
    """[N, num_actions]; None where every action is legal."""
    episode_ids: Sequence[str | None] | None
    steps: Sequence[int | None] | None
    arrived_at: float
    """`time.perf_counter()` when the last body byte had come."""
    deadline: float
    """On the same clock."""
    on_fallback: OnFallback
    told: Told
    on_durable: Callable[[], None] | None = None
    """Called on the event loop once the decision is on disk."""
    is_answered: bool = False

    @property
    def rows(self) -> int:
        """Observations asked about."""
        return len(self.observations)


@dataclass(frozen=True, slots=True)
class Batch:
    """Questions that share one call of the model, and their rows in order."""

    questions: list[Question]
    observations: npt.NDArray[Any]
    """[N, *shape]."""
    action_masks: npt.NDArray[np.bool_] | None
    """[N, num_actions]; None where every action is legal."""

    @classmethod
    def of(cls, questions: list[Question]) -> "Batch":
        """Put the questions' rows together; at least one question."""
        if len(questions) == 1:
            return cls(questions, questions[0].observations, questions[0].action_masks)
        observations = np.concatenate([question.observations for question in questions])
        if all(question.action_masks is None for question in questions):
            return cls(questions, observations, None)
        width = next(q.action_masks.shape[1] for q in questions if q.action_masks is not None)
        masks = [
            np.ones((question.rows, width), dtype=np.bool_)
            if question.action_masks is None
            else question.action_masks
            for question in questions
        ]
        return cls(questions, observations, np.concatenate(masks))

    def answered_rows(self) -> npt.NDArray[np.bool_] | None:
        """[N] of bool; None where no question has been answered yet, the common case."""
        answered = [question.is_answered for question in self.questions]
        if not any(answered):
            return None
        return np.repeat(answered, [question.rows for question in self.questions])

    def part(self, *, is_answered: bool) -> "Batch":
        """The questions that have been answered already, or the others."""
        return Batch.of([each for each in self.questions if each.is_answered == is_answered])

    def column(self, name: Literal["episode_ids", "steps"]) -> list[Any]:
        """The questions' ids or steps, one a row, None where a question gave none."""
        values: list[Any] = []
        for question in self.questions:
            values += getattr(question, name) or [None] * question.rows
        return values

    def tell(self, chosen: Chosen) -> None:
        """Give each question its rows. `chosen` has a row for each row of the batch."""
        actions, propensities = chosen.actions.tolist(), chosen.propensities.tolist()
        start = 0
        for question in self.questions:
            end = start + question.rows
            answer = Answer(
                actions[start:end],
                propensities[start:end],
                *_answered_by(chosen, start, end),
                None if chosen.q_values is None else chosen.q_values[start:end],
            )
            question.is_answered = True
            question.told(_refusal(question, answer) or answer)
            start = end


def _answered_by(chosen: Chosen, start: int, end: int) -> tuple[list[AnsweredBy], list[int] | None]:
    """Who answered these rows, and which entry is whose: a neighbour's fallback is not told of."""
    if chosen.index is None:
        return chosen.answered_by, None
    entries, index = np.unique(chosen.index[start:end], return_inverse=True)
    used = [chosen.answered_by[entry] for entry in entries]
    return used, None if len(used) == 1 else index.tolist()


def _refusal(question: Question, answer: Answer) -> FallbackRefusedError | None:
    """The error that a question wants instead of a heuristic's guess, if it came to one."""
    if question.on_fallback == "heuristic":
        return None
    reasons = {entry.reason for entry in answer.answered_by if entry.source == "heuristic"}
    if not reasons:
        return None
    return FallbackRefusedError(
        f"the model did not answer ({', '.join(sorted(str(reason) for reason in reasons))}) "
        "and on_fallback is 'error'"
    )
