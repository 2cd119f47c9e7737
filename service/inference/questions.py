"""What a request asks of a policy, what it is told, and how questions share a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from contract.records import AnsweredBy
from service.errors import FallbackRefusedError, ServiceError
from service.inference.fallback import Chosen
from service.inference.live import Live
from service.inference.observations import Rows, stack_rows
from service.inference.traced import Traced

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
    """[N, num_actions], NaN in rows the model did not answer; None where it answered none, or
    where they are not wanted."""


Told = Callable[[Answer | ServiceError], None]


@dataclass(slots=True, eq=False)
class Question:
    """One request's rows. `told` is called once, on the event loop."""

    decision_id: str
    observations: Rows
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
    wants_q_values: bool = True
    started_at: Sequence[float] | None = None
    """When each row's episode began, Unix seconds, as the caller says; None where it does not."""
    explores: bool = False
    """The episode agrees to random actions now and then."""
    logs_newest_frame: bool = False
    """The other frames of its stacks were logged with the steps before."""
    tags: dict[str, str] | None = None
    """For the log alone."""
    lives: list[Live] | None = None
    """The version that is to answer each row; None where that is the stable one for all."""
    salts: list[str | None] | None = None
    """Of what assigned each row's episode to its version; None where no version is on trial."""
    traced: Traced | None = None
    """Somebody follows it from its agent to its answer."""
    is_answered: bool = False
    rows: int = field(init=False)
    """Observations asked about."""

    def __post_init__(self) -> None:
        self.rows = len(self.observations)


@dataclass(frozen=True, slots=True)
class Batch:
    """Questions that share one call of the model, and their rows in order."""

    questions: list[Question]
    observations: npt.NDArray[Any]
    """[N, *shape]."""
    action_masks: npt.NDArray[np.bool_] | None
    """[N, num_actions]; None where every action is legal."""

    @classmethod
    def of(cls, questions: list[Question], dtype: np.dtype[Any]) -> "Batch":
        """Put the questions' rows together; at least one question."""
        observations = stack_rows([question.observations for question in questions], dtype)
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

    def exploring_rows(self) -> npt.NDArray[np.bool_] | None:
        """[N] of bool: whose episodes agree to random actions; None where none does."""
        agreed = [question.explores for question in self.questions]
        if not any(agreed):
            return None
        return np.repeat(agreed, [question.rows for question in self.questions])

    def part(self, rows: npt.NDArray[np.bool_], *, is_answered: bool) -> "Batch":
        """The questions that have been answered already, or the others: `rows` says whose."""
        return Batch(
            [each for each in self.questions if each.is_answered == is_answered],
            self.observations[rows],
            None if self.action_masks is None else self.action_masks[rows],
        )

    def tell(self, chosen: Chosen) -> None:
        """Give each question its rows. `chosen` has a row for each row of the batch."""
        actions, propensities = chosen.actions.tolist(), chosen.propensities.tolist()
        entries, index = chosen.answered_by, None
        start = 0
        for question in self.questions:
            end = start + question.rows
            q_values = None
            if chosen.index is not None:
                entries, index = _answered_by(chosen.answered_by, chosen.index[start:end])
            if question.wants_q_values and chosen.q_values is not None:
                q_values = chosen.q_values[start:end]
            answer = Answer(actions[start:end], propensities[start:end], entries, index, q_values)
            question.is_answered = True
            question.told(
                answer if question.on_fallback == "heuristic" else _refuse_heuristic(answer)
            )
            start = end


def _answered_by(
    answered_by: list[AnsweredBy], rows: npt.NDArray[np.intp]
) -> tuple[list[AnsweredBy], list[int] | None]:
    """Who answered these rows, and which entry is whose: a neighbour's fallback is not told of."""
    entries, index = np.unique(rows, return_inverse=True)
    used = [answered_by[entry] for entry in entries]
    return used, None if len(used) == 1 else index.tolist()


def _refuse_heuristic(answer: Answer) -> Answer | FallbackRefusedError:
    """The answer, or the error that is wanted instead of a heuristic's guess."""
    reasons = {entry.reason for entry in answer.answered_by if entry.source == "heuristic"}
    if not reasons:
        return answer
    return FallbackRefusedError(
        f"the model did not answer ({', '.join(sorted(str(reason) for reason in reasons))}) "
        "and on_fallback is 'error'"
    )
