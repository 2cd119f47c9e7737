"""One episode whose end is not known yet: what was decided, what was reported, what is finished."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from contract.records import AnsweredBy, DecisionBatch, Outcome, row_names
from contract.transitions import Ending, Episode, Transition

_WAITING_BYTES: Final = 500
"""About what a decision or an outcome costs beside its observation."""
_FINISHED_BYTES: Final = 100
"""About what a finished step costs."""


@dataclass(frozen=True)
class Decided:
    """One row of a decision batch. Its arrays are copies, so that it does not hold the batch."""

    name: str
    """`<decision_id>/<row>`."""
    policy: str
    schema_hash: str
    time: float
    observation: npt.NDArray[Any]
    action: int
    propensity: float
    answered_by: AnsweredBy
    q_values: npt.NDArray[np.float16] | None


def decided_rows(batch: DecisionBatch) -> Iterator[tuple[str | None, int | None, Decided]]:
    """(episode id, step, decision) of each row."""
    observations, actions = batch.observations.array(), batch.actions.array()
    propensities = batch.propensities.array()
    q_values = None if batch.q_values is None else batch.q_values.array()
    index = batch.answered_by_index
    for row, name in enumerate(row_names(batch)):
        decided = Decided(
            name=name,
            policy=batch.policy,
            schema_hash=batch.schema_hash,
            time=batch.time,
            observation=observations[row].copy(),
            action=int(actions[row]),
            propensity=float(propensities[row]),
            answered_by=batch.answered_by[0 if index is None else index[row]],
            q_values=None if q_values is None else q_values[row].copy(),
        )
        yield batch.episode_ids[row], batch.steps[row], decided


class OpenEpisode:
    """Pairs decisions with outcomes by step; an observation is let go once no step needs it.

    A step is finished when its decision, its outcome and (unless it is the last) the decision after
    it are known. Where records contradict one another, the first decision and the first outcome of
    a step and the earliest end stand.
    """

    def __init__(self, episode_id: str, *, is_lone: bool) -> None:
        self.episode_id = episode_id
        self.is_lone = is_lone
        """It is one decision that came without an episode id."""
        self.last_step: int | None = 0 if is_lone else None
        self.touched_at = 0.0
        """Time of the latest record, Unix seconds."""
        self.held_bytes = 0
        self._decisions: dict[int, Decided] = {}
        self._outcomes: dict[int, Outcome] = {}
        self._rewards: dict[int, float] = {}
        self._names: dict[int, str] = {}
        self._first_steps: dict[AnsweredBy, int] = {}
        self._policy: str | None = None
        self._ending: Ending = "timed_out"
        self._started_at = float("inf")
        self._ended_at = 0.0

    @property
    def is_whole(self) -> bool:
        """Every step from 0 to the last one is finished."""
        last = self.last_step
        return (
            last is not None
            and len(self._rewards) > last
            and all(step in self._rewards for step in range(last + 1))
        )

    @property
    def names(self) -> list[str]:
        """Of the decisions whose step is not finished."""
        return list(self._names.values())

    @property
    def waiting_outcomes(self) -> list[int]:
        """Steps with an outcome that are not finished, ascending."""
        return sorted(self._outcomes)

    def add_decision(self, step: int, decided: Decided) -> bool:
        """Take a decision; False where its step has one."""
        if step in self._decisions or step in self._rewards:
            return False
        self._decisions[step] = decided
        self._names[step] = decided.name
        self._policy = decided.policy
        self._started_at = min(self._started_at, decided.time)
        self.touched_at = max(self.touched_at, decided.time)
        self.held_bytes += decided.observation.nbytes + _WAITING_BYTES
        return True

    def add_outcome(self, step: int, outcome: Outcome) -> bool:
        """Take an outcome; False where its step has one."""
        if step in self._outcomes or step in self._rewards:
            return False
        self._outcomes[step] = outcome
        self.touched_at = max(self.touched_at, outcome.time)
        self.held_bytes += outcome_bytes(outcome)
        is_end = outcome.terminated or outcome.truncated
        if is_end and (self.last_step is None or step <= self.last_step):
            self.last_step = step
            self._ending = "terminated" if outcome.terminated else "truncated"
        return True

    def is_decided(self, step: int) -> bool:
        """Whether the step's decision is held."""
        return step in self._decisions

    def is_ready(self, step: int) -> bool:
        """Whether the step can be finished with all that there is to know of it."""
        outcome = self._outcomes.get(step)
        if outcome is None or step not in self._decisions:
            return False
        is_last = outcome.terminated or outcome.truncated or self.is_lone
        return is_last or step + 1 in self._decisions

    def finish(self, step: int) -> tuple[str, Transition]:
        """The name of the step's decision, and its transition."""
        decided, outcome = self._decisions[step], self._outcomes.pop(step)
        self._rewards[step] = outcome.reward
        self._ended_at = max(self._ended_at, outcome.time)
        first = self._first_steps.get(decided.answered_by, step)
        self._first_steps[decided.answered_by] = min(first, step)
        self.held_bytes += _FINISHED_BYTES - _WAITING_BYTES - outcome_bytes(outcome)
        transition = Transition(
            policy=decided.policy,
            schema_hash=decided.schema_hash,
            episode_id=self.episode_id,
            step=step,
            observation=decided.observation,
            action=decided.action,
            reward=outcome.reward,
            next_observation=self._next_observation(step, outcome),
            terminated=outcome.terminated,
            truncated=outcome.truncated,
            propensity=decided.propensity,
            answered_by=decided.answered_by,
            q_values=decided.q_values,
            time=decided.time,
        )
        self._let_go(step)
        self._let_go(step + 1)
        return self._names.pop(step), transition

    def summary(self) -> Episode | None:
        """The episode as far as it is known; None where no decision of it came."""
        if self._policy is None or self.is_lone:
            return None
        return Episode(
            policy=self._policy,
            episode_id=self.episode_id,
            ending=self._ending,
            rewards=tuple(self._rewards[step] for step in sorted(self._rewards)),
            is_complete=self.is_whole,
            answered_by=tuple(
                sorted(self._first_steps, key=lambda who: (self._first_steps[who], repr(who)))
            ),
            started_at=self._started_at,
            ended_at=max(self._started_at, self._ended_at),
        )

    def _next_observation(self, step: int, outcome: Outcome) -> npt.NDArray[Any] | None:
        if outcome.final_observation is not None:
            return outcome.final_observation.array()
        if outcome.terminated:
            # Nothing follows a true end, and a target ignores what stands here.
            return np.zeros_like(self._decisions[step].observation)
        following = self._decisions.get(step + 1)
        return None if outcome.truncated or following is None else following.observation

    def _let_go(self, step: int) -> None:
        """Drop a decision that neither its own step nor the one before it needs any more.

        A frame stack is 28 KB and an episode may run for hours.
        """
        if step in self._rewards and (step == 0 or step - 1 in self._rewards):
            decided = self._decisions.pop(step, None)
            if decided is not None:
                self.held_bytes -= decided.observation.nbytes


def outcome_bytes(outcome: Outcome) -> int:
    """About what holding an outcome costs."""
    final = outcome.final_observation
    return _WAITING_BYTES + (0 if final is None else len(final.data))
