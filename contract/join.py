"""Records to transitions and episodes: pure, incremental, and free of order.

A decision says what was seen and done, an outcome what came of it; they arrive late, twice, in any
order or never. The join emits each transition once, as soon as all of it is known, and never
guesses: a step whose next observation is unknown has none.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from contract.records import AnsweredBy, DecisionBatch, Outcome, Record, TransitionRecord, row_names
from contract.transitions import Ending, Episode, Transition

Counted = Literal["joined", "duplicate", "late", "unknown", "evicted"]

_LONE = "decision:"
"""Begins the name of an episode of one step: a decision that came without an episode id."""


@dataclass(frozen=True)
class JoinRules:
    """How long the join waits, and how much it holds."""

    episode_timeout_seconds: float = 3600.0
    """An open episode without a new record for so long is closed as `timed_out`."""
    max_open_episodes: int = 100_000
    """Beyond it the longest silent episode is closed, and counted as evicted."""
    remembered: int = 1_000_000
    """Closed episodes and transition ids whose repeats are recognised."""


@dataclass(frozen=True)
class _Decided:
    """One row of a decision batch."""

    batch: DecisionBatch
    observation: npt.NDArray[Any]
    action: int
    propensity: float
    answered_by: AnsweredBy
    q_values: npt.NDArray[np.float16] | None


@dataclass
class _Open:
    """An episode whose end is not known yet."""

    decisions: dict[int, _Decided] = field(default_factory=dict)
    """Steps not yet finished, and the last finished one's successor."""
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    """Steps not yet finished."""
    rewards: dict[int, float] = field(default_factory=dict)
    """Finished steps."""
    names: list[str] = field(default_factory=list)
    answered_by: dict[AnsweredBy, None] = field(default_factory=dict)
    policy: str | None = None
    last_step: int | None = None
    ending: Ending = "timed_out"
    started_at: float = float("inf")
    touched_at: float = 0.0

    @property
    def is_whole(self) -> bool:
        """Every step from 0 to the last one is finished."""
        return self.last_step is not None and len(self.rewards) == self.last_step + 1


class Join:
    """Holds the open episodes: `add` records in any order, `close_silent` as time passes."""

    def __init__(self, rules: JoinRules | None = None) -> None:
        self._rules = rules or JoinRules()
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._places: dict[str, tuple[str, int]] = {}
        self._early: OrderedDict[str, Outcome] = OrderedDict()
        self._closed: OrderedDict[str, None] = OrderedDict()
        self._transition_ids: OrderedDict[str, None] = OrderedDict()
        self.counts: dict[Counted, int] = dict.fromkeys(
            ("joined", "duplicate", "late", "unknown", "evicted"), 0
        )

    def add(self, record: Record) -> list[Transition | Episode]:
        """Take one record; return what it completed, transitions before their episode."""
        match record:
            case DecisionBatch():
                return list(self._add_decisions(record))
            case Outcome():
                return list(self._add_outcome(record))
            case TransitionRecord():
                return list(self._add_transition(record))

    def close_silent(self, now: float) -> list[Transition | Episode]:
        """Close the episodes that have been silent for longer than the rules allow."""
        limit = now - self._rules.episode_timeout_seconds
        while self._early and next(iter(self._early.values())).time < limit:
            self._early.popitem(last=False)
            self.counts["unknown"] += 1
        done: list[Transition | Episode] = []
        # Touching an episode moves it to the end, so the silent ones stand first.
        while self._open and next(iter(self._open.values())).touched_at < limit:
            done += self._close(next(iter(self._open)))
        return done

    def _add_decisions(self, batch: DecisionBatch) -> Iterator[Transition | Episode]:
        observations, actions = batch.observations.array(), batch.actions.array()
        propensities = batch.propensities.array()
        q_values = None if batch.q_values is None else batch.q_values.array()
        index = batch.answered_by_index
        for row, name in enumerate(row_names(batch)):
            decided = _Decided(
                batch=batch,
                observation=observations[row],
                action=int(actions[row]),
                propensity=float(propensities[row]),
                answered_by=batch.answered_by[0 if index is None else index[row]],
                q_values=None if q_values is None else q_values[row],
            )
            episode_id, step = batch.episode_ids[row], batch.steps[row]
            if episode_id is None or step is None:
                episode_id, step = _LONE + name, 0
            yield from self._decide(episode_id, step, name, decided)

    def _decide(
        self, episode_id: str, step: int, name: str, decided: _Decided
    ) -> Iterator[Transition | Episode]:
        episode = self._touch(episode_id, decided.batch.time)
        if episode is None:
            return
        if step in episode.decisions or step in episode.rewards:
            self.counts["duplicate"] += 1
            return
        episode.decisions[step] = decided
        episode.policy = decided.batch.policy
        episode.answered_by[decided.answered_by] = None
        episode.names.append(name)
        self._places[name] = (episode_id, step)
        early = self._early.pop(name, None)
        if early is not None:
            self._take_outcome(episode, step, early)
        yield from self._advance(episode_id, episode, (step - 1, step))

    def _add_outcome(self, outcome: Outcome) -> Iterator[Transition | Episode]:
        if outcome.episode_id is not None and outcome.step is not None:
            episode_id, step = outcome.episode_id, outcome.step
        else:
            name = f"{outcome.decision_id}/{outcome.row}"
            place = self._places.get(name)
            if place is None:
                self._keep_early(name, outcome)
                return
            episode_id, step = place
        episode = self._touch(episode_id, outcome.time)
        if episode is not None and self._take_outcome(episode, step, outcome):
            yield from self._advance(episode_id, episode, (step,))

    def _keep_early(self, name: str, outcome: Outcome) -> None:
        if name in self._early or _LONE + name in self._closed:
            self.counts["duplicate"] += 1
            return
        self._early[name] = outcome
        if len(self._early) > self._rules.max_open_episodes:
            self._early.popitem(last=False)
            self.counts["unknown"] += 1

    def _take_outcome(self, episode: _Open, step: int, outcome: Outcome) -> bool:
        if step in episode.outcomes or step in episode.rewards:
            self.counts["duplicate"] += 1
            return False
        episode.outcomes[step] = outcome
        if outcome.terminated or outcome.truncated:
            episode.last_step = step
            episode.ending = "terminated" if outcome.terminated else "truncated"
        return True

    def _add_transition(self, record: TransitionRecord) -> Iterator[Transition | Episode]:
        if not _remember(self._transition_ids, record.transition_id, self._rules.remembered):
            self.counts["duplicate"] += 1
            return
        self.counts["joined"] += 1
        yield Transition(
            policy=record.policy,
            schema_hash=record.schema_hash,
            episode_id=record.episode_id or f"transition:{record.transition_id}",
            step=record.step or 0,
            observation=record.observation.array(),
            action=record.action,
            reward=record.reward,
            next_observation=record.next_observation.array(),
            terminated=record.terminated,
            truncated=record.truncated,
            propensity=record.propensity,
            answered_by=AnsweredBy(None, "stable", "model", None, record.behaviour),
            q_values=None,
            time=record.time,
        )

    def _touch(self, episode_id: str, time: float) -> _Open | None:
        """The open episode, begun where it is new; None, and counted, where it is closed."""
        if episode_id in self._closed:
            self.counts["duplicate" if episode_id.startswith(_LONE) else "late"] += 1
            return None
        episode = self._open.setdefault(episode_id, _Open())
        episode.started_at = min(episode.started_at, time)
        episode.touched_at = max(episode.touched_at, time)
        self._open.move_to_end(episode_id)
        return episode

    def _advance(
        self, episode_id: str, episode: _Open, steps: Iterable[int]
    ) -> Iterator[Transition | Episode]:
        is_lone = episode_id.startswith(_LONE)
        for step in steps:
            outcome = episode.outcomes.get(step)
            if outcome is None or step not in episode.decisions:
                continue
            is_last = outcome.terminated or outcome.truncated or is_lone
            if is_last or step + 1 in episode.decisions:
                yield _finish_step(episode_id, episode, step)
                self.counts["joined"] += 1
        if episode.is_whole or (is_lone and episode.rewards):
            yield from self._close(episode_id)
        while len(self._open) > self._rules.max_open_episodes:
            self.counts["evicted"] += 1
            yield from self._close(next(iter(self._open)))

    def _close(self, episode_id: str) -> Iterator[Transition | Episode]:
        episode = self._open.pop(episode_id)
        for step in sorted(episode.outcomes):
            if step in episode.decisions:
                yield _finish_step(episode_id, episode, step)
                self.counts["joined"] += 1
            else:
                self.counts["unknown"] += 1
        for name in episode.names:
            del self._places[name]
        _remember(self._closed, episode_id, self._rules.remembered)
        if episode.policy is None or episode_id.startswith(_LONE):
            return
        yield Episode(
            policy=episode.policy,
            episode_id=episode_id,
            ending=episode.ending,
            rewards=tuple(episode.rewards[step] for step in sorted(episode.rewards)),
            is_complete=episode.is_whole,
            answered_by=tuple(episode.answered_by),
            started_at=episode.started_at,
            ended_at=episode.touched_at,
        )


def _finish_step(episode_id: str, episode: _Open, step: int) -> Transition:
    decided, outcome = episode.decisions[step], episode.outcomes.pop(step)
    episode.rewards[step] = outcome.reward
    transition = Transition(
        policy=decided.batch.policy,
        schema_hash=decided.batch.schema_hash,
        episode_id=episode_id,
        step=step,
        observation=decided.observation,
        action=decided.action,
        reward=outcome.reward,
        next_observation=_next_observation(episode, step, outcome),
        terminated=outcome.terminated,
        truncated=outcome.truncated,
        propensity=decided.propensity,
        answered_by=decided.answered_by,
        q_values=decided.q_values,
        time=decided.batch.time,
    )
    # A frame stack is 28 KB and an episode may run for hours: keep only what a step still needs.
    for done in (step, step + 1):
        if done in episode.rewards and (done == 0 or done - 1 in episode.rewards):
            episode.decisions.pop(done, None)
    return transition


def _next_observation(episode: _Open, step: int, outcome: Outcome) -> npt.NDArray[Any] | None:
    if outcome.final_observation is not None:
        return outcome.final_observation.array()
    if outcome.terminated:
        # Nothing follows a true end, and a target ignores what stands here.
        return np.zeros_like(episode.decisions[step].observation)
    if outcome.truncated or step + 1 not in episode.decisions:
        return None
    return episode.decisions[step + 1].observation


def _remember(names: OrderedDict[str, None], name: str, limit: int) -> bool:
    """Add a name, dropping the oldest beyond the limit; False where it was known."""
    if name in names:
        return False
    names[name] = None
    if len(names) > limit:
        names.popitem(last=False)
    return True
