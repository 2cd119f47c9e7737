"""What waits for a model, and who gives way where it cannot answer everybody in time. Pure.

Times are those of `time.perf_counter`, and told.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

from service.inference.cost import CostModel
from service.inference.questions import Question

MARGIN_SECONDS: Final = 0.001
"""A question goes to the heuristic so long before its deadline."""

_SHARE: Final = 0.75
"""Of a question's time, by which the model should have answered it. Were all of it planned for,
every answer would come at the last moment, and a model slower than it was would miss them all."""


class Waiting:
    """Owns the questions that have not been given to the model."""

    def __init__(self) -> None:
        self._queue: deque[Question] = deque()
        self._gave_way: list[Question] = []
        self.rows = 0
        """Of the questions that wait for the model."""

    def __bool__(self) -> bool:
        return bool(self._queue)

    def __iter__(self) -> Iterator[Question]:
        return iter(self._queue)

    def add(self, question: Question) -> None:
        """Let a question wait for the model."""
        self._queue.append(question)
        self.rows += question.rows

    def give_way(self, question: Question) -> None:
        """Let a question go to the heuristic in this turn."""
        self._gave_way.append(question)

    def take_given_way(self) -> list[Question]:
        """Those that gave way since this was last asked."""
        gave_way, self._gave_way = self._gave_way, []
        return gave_way

    def make_room(self, question: Question, free_at: float, cost: CostModel) -> bool:
        """Whether a model that is free at `free_at` can answer; what waited longer may give way.

        Beyond capacity somebody has to go to the heuristic. Were it always the newest, the model
        would spend itself on those that have waited longest, each of them at the last moment.
        """
        begins_at, due = max(question.arrived_at, free_at), _due(question)
        if begins_at + cost.seconds(question.rows) > due:
            return False
        while self._queue:
            oldest = self._queue[0]
            ends_at = begins_at + cost.seconds(self.rows + question.rows)
            if ends_at <= min(_due(oldest), due):
                return True
            if _due(oldest) > due:
                return False
            if _due(oldest) <= begins_at:
                # Nothing could help it; its own deadline says why.
                return True
            self.rows -= oldest.rows
            self.give_way(self._queue.popleft())
        return True

    def take_late(self, now: float) -> list[Question]:
        """Those with no time left for the model."""
        limit = now + MARGIN_SECONDS
        late = [question for question in self._queue if question.deadline <= limit]
        if late:
            self._queue = deque(each for each in self._queue if each.deadline > limit)
            self.rows = sum(question.rows for question in self._queue)
        return late

    def take(self, max_rows: int) -> list[Question]:
        """The first of them: at least one, and no more than so many rows where there are more."""
        questions = [self._queue.popleft()]
        rows = questions[0].rows
        while self._queue and rows + self._queue[0].rows <= max_rows:
            rows += self._queue[0].rows
            questions.append(self._queue.popleft())
        self.rows -= rows
        return questions

    def rows_in_time(self, begins_at: float, cost: CostModel) -> int:
        """How many rows may share a batch for every one of them to be in time.

        A row that joins a batch lets every other row of it wait, and those that came first were
        promised an answer before those that came last.
        """
        first_due = min(question.deadline for question in self._queue)
        return cost.rows_within(first_due - MARGIN_SECONDS - begins_at)


def _due(question: Question) -> float:
    return question.arrived_at + _SHARE * (question.deadline - question.arrived_at)
