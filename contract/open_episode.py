"""One episode whose end is not known yet: what was decided, what was reported, what is finished."""

from itertools import chain
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from contract.decided import Decided
from contract.records import AnsweredBy, Outcome
from contract.rewards import RewardRules, combine, hold
from contract.stacks import is_whole_at, observation_at, push
from contract.transitions import Ending, Episode, Transition

_WAITING_BYTES: Final = 500
"""About what a decision or an outcome costs beside its observation."""
_FINISHED_BYTES: Final = 200
"""About what a finished step costs."""


class Piece(NamedTuple):
    """What was cut off a task that never ends."""

    episode: Episode
    names: list[str]
    """Of decisions without an outcome that were given up with it."""
    num_orphans: int
    """Outcomes without a decision that were given up with it."""


class _Finished(NamedTuple):
    reward: float
    answered_by: AnsweredBy
    decided_at: float
    reported_at: float


class OpenEpisode:
    """Pairs decisions with outcomes by step; an observation is let go once no step needs it.

    A step is settled when no further outcome can change its reward, and finished when, beside that,
    its decision and (unless it is the last) the decision after it are known. Where records
    contradict one another, the first decision of a step and the earliest end stand. An end is an
    end, however late it is told.
    """

    def __init__(self, episode_id: str, rules: RewardRules, *, is_lone: bool) -> None:
        self.episode_id = episode_id
        self.rules = rules
        """Of its policy, once a decision has named it."""
        self.is_lone = is_lone
        """It is one decision that came without an episode id."""
        self.last_step: int | None = 0 if is_lone else None
        self.touched_at = 0.0
        """Time of the latest record, Unix seconds."""
        self.since = float("inf")
        """Time of the earliest record that what is not cut off was made of, Unix seconds."""
        self.held_bytes = 0
        self.policy: str | None = None
        self._decisions: dict[int, Decided] = {}
        self._outcomes: dict[int, list[Outcome]] = {}
        self._settled: dict[int, Outcome] = {}
        self._finished: dict[int, _Finished] = {}
        self._names: dict[int, str] = {}
        self._who: dict[AnsweredBy, AnsweredBy] = {}
        self._ending: Ending = "timed_out"
        self._started_at = float("inf")
        self._begin = 0
        self.depth = 1
        """Frames of a stack, where decisions hold their newest alone."""

    @property
    def is_whole(self) -> bool:
        """Every step up to the last one is finished."""
        last = self.last_step
        return (
            last is not None
            and len(self._finished) > last - self._begin
            and all(step in self._finished for step in range(self._begin, last + 1))
        )

    @property
    def names(self) -> list[str]:
        """Of the decisions whose step is not finished."""
        return list(self._names.values())

    @property
    def decided_steps(self) -> list[int]:
        """Steps with a decision that are not finished, ascending."""
        return sorted(self._names)

    @property
    def waiting_outcomes(self) -> list[int]:
        """Steps with an outcome that are not finished, ascending."""
        return sorted(self._outcomes.keys() | self._settled.keys())

    def add_decision(self, step: int, decided: Decided) -> bool:
        """Take a decision; False where its step has one."""
        if step in self._decisions or self._is_finished(step):
            return False
        self._decisions[step] = decided
        self.depth = max(self.depth, decided.frame_stack)
        self._names[step] = decided.name
        self.policy = decided.policy
        self._started_at = min(self._started_at, decided.time)
        self._touch(decided.time)
        self.held_bytes += decided.observation.nbytes + _WAITING_BYTES
        return True

    def add_outcome(self, step: int, outcome: Outcome) -> Literal["duplicate", "late"] | None:
        """Take an outcome; or say why it does not count."""
        is_windowed = self.rules.window_seconds is not None
        if step in self._settled or self._is_finished(step):
            return "late" if is_windowed else "duplicate"
        waiting = self._outcomes.get(step, [])
        if waiting and not is_windowed:
            return "duplicate"
        self._note_end(step, outcome)
        decided = self._decisions.get(step)
        if decided is not None and not self.rules.counts(decided.time, outcome):
            return "late"
        self.held_bytes -= sum(map(outcome_bytes, waiting))
        is_new = hold(self._outcomes.setdefault(step, waiting), outcome)
        self.held_bytes += sum(map(outcome_bytes, waiting))
        self._touch(outcome.time)
        return None if is_new else "duplicate"

    def settle(self, step: int, now: float, *, is_closing: bool = False) -> int:
        """Fix the reward of a decided step if it can be; how many outcomes were too late for it."""
        decided = self._decisions.get(step)
        if decided is None or step in self._settled or self._is_finished(step):
            return 0
        rules = self.rules
        is_over = rules.is_over(decided.time, now)
        if rules.window_seconds is not None and not (is_over or is_closing):
            return 0
        outcomes = self._outcomes.pop(step, [])
        in_time = [each for each in outcomes if rules.counts(decided.time, each)]
        self.held_bytes -= sum(map(outcome_bytes, outcomes))
        settled = combine(in_time, rules)
        if settled is None and is_over and rules.default_reward is not None:
            settled = self._default(step, decided, rules.default_reward)
        if settled is not None:
            self._settled[step] = settled
            self.held_bytes += outcome_bytes(settled)
        return len(outcomes) - len(in_time)

    def is_decided(self, step: int) -> bool:
        """Whether the step's decision is held, and its reward settled."""
        return step in self._decisions and step in self._settled

    def is_seen(self, step: int) -> bool:
        """Whether the step is decided, and all frames of what was seen there are known."""
        return step in self._decisions and is_whole_at(self._decisions, step)

    def is_ready(self, step: int) -> bool:
        """Whether the step can be finished with all that there is to know of it."""
        outcome = self._settled.get(step)
        if outcome is None or not self.is_seen(step):
            return False
        is_last = outcome.terminated or outcome.truncated or self.is_lone
        return is_last or self.is_seen(step + 1)

    def finish(self, step: int) -> tuple[str, Transition]:
        """The name of the step's decision, and its transition; the step `is_seen`."""
        observation = observation_at(self._decisions, step)
        if observation is None:
            raise ValueError(f"step {step}: frames before it are not known")
        decided, outcome = self._decisions[step], self._settled.pop(step)
        who = self._who.setdefault(decided.answered_by, decided.answered_by)
        self._finished[step] = _Finished(outcome.reward, who, decided.time, outcome.time)
        self.held_bytes += _FINISHED_BYTES - _WAITING_BYTES - outcome_bytes(outcome)
        transition = Transition(
            policy=decided.policy,
            schema_hash=decided.schema_hash,
            episode_id=self.episode_id,
            step=step,
            observation=observation,
            action=decided.action,
            reward=outcome.reward,
            next_observation=self._next_observation(step, observation, outcome),
            terminated=outcome.terminated,
            truncated=outcome.truncated,
            propensity=decided.propensity,
            answered_by=decided.answered_by,
            q_values=decided.q_values,
            time=decided.time,
            reported_at=outcome.time,
            circumstances=decided.circumstances,
            audit=outcome.audit,
        )
        for each in range(step - self.depth + 1, step + 2):
            self._let_go(each)
        return self._names.pop(step), transition

    def cut(self) -> Piece | None:
        """A piece as long as the horizon.

        A piece is cut off once all its steps are finished, or a whole further piece has passed.
        """
        horizon = self.rules.horizon_steps
        if horizon is None or self.is_lone:
            return None
        end = self._begin + horizon
        is_full = len(self._finished) >= horizon and all(
            step in self._finished for step in range(self._begin, end)
        )
        is_passed = max(self._finished, default=0) >= end + horizon
        if not (is_full or is_passed) or (self.last_step is not None and self.last_step < end):
            return None
        steps = [step for step in self._finished if step < end]
        episode = self._summary_of(steps, "truncated", is_complete=is_full)
        for step in steps:
            del self._finished[step]
        self.held_bytes -= _FINISHED_BYTES * len(steps)
        self._begin = end
        names = [self._give_up(step) for step in self.decided_steps if step < end]
        for step in [step for step in self._decisions if step <= end]:
            self._let_go(step)
        orphans = [step for step in self._outcomes if step < end]
        for step in orphans:
            self.held_bytes -= sum(map(outcome_bytes, self._outcomes.pop(step)))
        self.since = self._earliest()
        return Piece(episode, names, len(orphans))

    def summary(self) -> Episode | None:
        """What is left of the episode, as far as known; None where no decision of it came."""
        if self.policy is None or self.is_lone or (self._begin and not self._finished):
            return None
        return self._summary_of(list(self._finished), self._ending, is_complete=self.is_whole)

    def _summary_of(self, steps: list[int], ending: Ending, *, is_complete: bool) -> Episode:
        done = [self._finished[step] for step in sorted(steps)]
        horizon = self.rules.horizon_steps
        is_piece = self._begin > 0 or (ending == "truncated" and ending != self._ending)
        started_at = (
            min(each.decided_at for each in done) if self._begin and done else self._started_at
        )
        # By identity of value, in the order of first steps.
        answered_by = tuple(dict.fromkeys(each.answered_by for each in done))
        return Episode(
            policy=self.policy or "",
            episode_id=(
                f"{self.episode_id}#{self._begin // horizon}"
                if is_piece and horizon is not None
                else self.episode_id
            ),
            ending=ending,
            rewards=tuple(each.reward for each in done),
            is_complete=is_complete,
            answered_by=answered_by,
            started_at=started_at,
            ended_at=max([started_at, *(each.reported_at for each in done)]),
        )

    def _default(self, step: int, decided: Decided, reward: float) -> Outcome:
        is_end = step == self.last_step and not self.is_lone
        return Outcome(
            policy=decided.policy,
            time=decided.time + (self.rules.window_seconds or 0.0),
            decision_id=None,
            row=0,
            episode_id=self.episode_id,
            step=step,
            reward=reward,
            terminated=is_end and self._ending == "terminated",
            truncated=is_end and self._ending == "truncated",
        )

    def _touch(self, time: float) -> None:
        self.since = min(self.since, time)
        self.touched_at = max(self.touched_at, time)

    def _earliest(self) -> float:
        outcomes = chain(self._settled.values(), *self._outcomes.values())
        times = [each.time for each in self._decisions.values()]
        times += [each.time for each in outcomes]
        times += [each.decided_at for each in self._finished.values()]
        return min(times, default=self.touched_at)

    def _note_end(self, step: int, outcome: Outcome) -> None:
        is_end = outcome.terminated or outcome.truncated
        if is_end and (self.last_step is None or step <= self.last_step):
            self.last_step = step
            self._ending = "terminated" if outcome.terminated else "truncated"

    def _is_finished(self, step: int) -> bool:
        return step < self._begin or step in self._finished

    def _next_observation(
        self, step: int, observation: npt.NDArray[Any], outcome: Outcome
    ) -> npt.NDArray[Any] | None:
        if outcome.final_observation is not None:
            return push(observation, outcome.final_observation.array())
        if outcome.terminated:
            # Nothing follows a true end, and a target ignores what stands here.
            return np.zeros_like(observation)
        if outcome.truncated or step + 1 not in self._decisions:
            return None
        return observation_at(self._decisions, step + 1)

    def _let_go(self, step: int) -> None:
        """Drop a decision that neither its own step, the one before it nor a later stack needs.

        A frame stack is 28 KB and an episode may run for hours.
        """
        if all(self._is_finished(each) for each in range(max(step - 1, 0), step + self.depth)):
            decided = self._decisions.pop(step, None)
            if decided is not None:
                self.held_bytes -= decided.observation.nbytes

    def _give_up(self, step: int) -> str:
        """What a step waits with; its frame goes once no later stack needs it."""
        outcomes = self._outcomes.pop(step, [])
        if step in self._settled:
            outcomes.append(self._settled.pop(step))
        self.held_bytes -= _WAITING_BYTES
        self.held_bytes -= sum(map(outcome_bytes, outcomes))
        return self._names.pop(step)


def outcome_bytes(outcome: Outcome) -> int:
    """About what holding an outcome costs."""
    final = outcome.final_observation
    return _WAITING_BYTES + (0 if final is None else len(final.data))
