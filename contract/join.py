"""Records to transitions and episodes: pure, incremental, and free of order.

A decision says what was seen and done, an outcome what came of it; they arrive late, twice, in any
order or never. The join emits each transition once, as soon as all of it is known, and never
guesses: a step whose next observation is unknown has none.
"""

import heapq
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeVar, get_args

from contract.decided import Decided, decided_rows
from contract.open_episode import OpenEpisode, outcome_bytes
from contract.records import AnsweredBy, DecisionBatch, Outcome, Record, TransitionRecord
from contract.rewards import RewardRules, hold
from contract.transitions import Circumstances, Episode, Transition

Counted = Literal["joined", "duplicate", "late", "unknown", "no_history", "evicted"]
"""`joined` steps; `duplicate` decisions, outcomes and transitions; `late` ones, of an episode that
was closed without them, or past their reward window; `unknown` outcomes, whose decision never came;
`no_history` steps, left out since earlier frames of what was seen there never came; `evicted`
episodes."""

_Name = TypeVar("_Name")


@dataclass(frozen=True)
class JoinRules:
    """How long the join waits, and how much it holds."""

    episode_timeout_seconds: float = 3600.0
    """An open episode without a new record for so long is closed as `timed_out`."""
    max_open_episodes: int = 100_000
    """Beyond it the longest silent episode is closed, and counted as evicted."""
    max_held_bytes: int = 2 * 1024**3
    """What open episodes may hold, about; beyond it the longest silent one is evicted."""
    remembered: int = 1_000_000
    """Closed episodes, finished decisions and transition ids whose repeats are recognised. A record
    that is repeated after so many others is taken for a new one."""
    rewards: RewardRules = field(default_factory=RewardRules)
    """How outcomes become rewards."""
    rewards_by_policy: Mapping[str, RewardRules] = field(default_factory=dict)
    """For policies with rules of their own."""

    def rewards_of(self, policy: str | None) -> RewardRules:
        """The rules of one policy."""
        return self.rewards if policy is None else self.rewards_by_policy.get(policy, self.rewards)


class _Key(NamedTuple):
    """Names an open episode: an episode id, or a decision that came without one."""

    is_lone: bool
    name: str


class _Place(NamedTuple):
    key: _Key
    step: int


class Join:
    """Holds the open episodes: `add` records in any order, `close_silent` as time passes.

    Episode ids are unique over all policies, since an outcome may not say which policy it is for;
    steps count from 0. What a time-out or an eviction cuts off depends on when it strikes; all else
    is the same whatever the order of the records.
    """

    def __init__(self, rules: JoinRules | None = None) -> None:
        self._rules = rules or JoinRules()
        self._open: OrderedDict[_Key, OpenEpisode] = OrderedDict()
        self._places: dict[str, _Place] = {}
        self._early: OrderedDict[str, list[Outcome]] = OrderedDict()
        self._windows: list[tuple[float, _Place]] = []
        self._closed: OrderedDict[_Key, Counted] = OrderedDict()
        self._past_names: OrderedDict[str, Counted] = OrderedDict()
        self._transition_ids: OrderedDict[str, Counted] = OrderedDict()
        self._held_bytes = 0
        self._now = 0.0
        self.unreported: Counter[str] = Counter()
        """Policy to its decisions that were closed and not joined."""
        self.counts: dict[Counted, int] = dict.fromkeys(get_args(Counted), 0)

    @property
    def held_bytes(self) -> int:
        """About what the records that wait cost."""
        return self._held_bytes

    @property
    def open_since(self) -> float | None:
        """Time of the earliest record that something still waits with; Unix seconds."""
        times = [episode.since for episode in self._open.values()]
        times += [outcomes[0].time for outcomes in self._early.values()]
        return min(times, default=None)

    def episodes_open_since(self, policy: str) -> float | None:
        """Time of the earliest record of a policy's open episodes; Unix seconds.

        A decision without an episode is none, and may wait for its outcome for ever.
        """
        times = [
            episode.since
            for key, episode in self._open.items()
            if not key.is_lone and episode.policy in (policy, None)
        ]
        return min(times, default=None)

    def reset_counts(self) -> None:
        """Count from zero: what was read again has been counted before."""
        self.counts.update(dict.fromkeys(self.counts, 0))
        self.unreported.clear()

    def add(self, record: Record) -> list[Transition | Episode]:
        """Take one record; return what it completed, transitions before their episode."""
        match record:
            case DecisionBatch(is_late=True):
                return []
            case DecisionBatch():
                done = [
                    item
                    for episode_id, step, decided in decided_rows(record)
                    for item in self._add_decision(_place(episode_id, step, decided), decided)
                ]
            case Outcome():
                done = list(self._add_outcome(record))
            case TransitionRecord():
                done = list(self._add_transition(record))
        return [*done, *self._evict()]

    def close_silent(self, now: float) -> list[Transition | Episode]:
        """Close what has been silent for longer than the rules allow; end reward windows.

        An episode that stands behind a younger one (records came out of order) is closed after it.
        """
        limit = now - self._rules.episode_timeout_seconds
        self._now = max(self._now, now)
        while self._early and next(iter(self._early.values()))[0].time < limit:
            self._give_up_early()
        done: list[Transition | Episode] = []
        while self._windows and self._windows[0][0] < now:
            _, place = heapq.heappop(self._windows)
            if place.key in self._open:
                done += self._advance(place.key, self._open[place.key], (place.step,))
        # A record moves its episode to the end, so the silent ones stand first.
        while self._open and next(iter(self._open.values())).touched_at < limit:
            done += self._close(next(iter(self._open)))
        return done

    def _add_decision(self, place: _Place, decided: Decided) -> Iterator[Transition | Episode]:
        if decided.name in self._places:
            self.counts["duplicate"] += 1
            return
        episode = self._find(place.key, decided.policy)
        if episode is None:
            return
        held = episode.held_bytes
        if not episode.add_decision(place.step, decided):
            self.counts["duplicate"] += 1
            return
        self._places[decided.name] = place
        self._held_bytes += episode.held_bytes - held
        episode.rules = rules = self._rules.rewards_of(decided.policy)
        if rules.window_seconds is not None:
            heapq.heappush(self._windows, (decided.time + rules.window_seconds, place))
        for early in self._early.pop(decided.name, []):
            self._held_bytes -= outcome_bytes(early)
            self._take_outcome(episode, place.step, early)
        # Beside its own step and the one before it, its frame may be all that later ones lacked.
        affected = range(place.step - 1, place.step + episode.depth)
        yield from self._advance(place.key, episode, affected)

    def _add_outcome(self, outcome: Outcome) -> Iterator[Transition | Episode]:
        name = f"{outcome.decision_id}/{outcome.row}"
        if outcome.decision_id is None and outcome.episode_id is not None:
            place = _Place(_Key(False, outcome.episode_id), outcome.step or 0)
        elif name in self._places:
            place = self._places[name]
        elif name in self._past_names:
            self.counts[self._past_names[name]] += 1
            return
        else:
            self._wait_for_decision(name, outcome)
            return
        episode = self._find(place.key, outcome.policy)
        if episode is not None:
            self._take_outcome(episode, place.step, outcome)
            yield from self._advance(place.key, episode, (place.step,))

    def _wait_for_decision(self, name: str, outcome: Outcome) -> None:
        waiting = self._early.get(name, [])
        is_windowed = self._rules.rewards_of(outcome.policy).window_seconds is not None
        if waiting and not is_windowed:
            self.counts["duplicate"] += 1
            return
        self._held_bytes -= sum(map(outcome_bytes, waiting))
        if not hold(self._early.setdefault(name, waiting), outcome):
            self.counts["duplicate"] += 1
        self._held_bytes += sum(map(outcome_bytes, waiting))

    def _take_outcome(self, episode: OpenEpisode, step: int, outcome: Outcome) -> None:
        held = episode.held_bytes
        refusal = episode.add_outcome(step, outcome)
        if refusal is not None:
            self.counts[refusal] += 1
        self._held_bytes += episode.held_bytes - held

    def _add_transition(self, record: TransitionRecord) -> Iterator[Transition]:
        if record.transition_id in self._transition_ids:
            self.counts["duplicate"] += 1
            return
        self._remember(self._transition_ids, record.transition_id, "duplicate")
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
            reported_at=record.time,
            circumstances=Circumstances(logged_share=record.logged_share),
        )

    def _find(self, key: _Key, policy: str | None) -> OpenEpisode | None:
        """The open episode, begun where it is new; None, and counted, where it is closed."""
        if key in self._closed:
            self.counts[self._closed[key]] += 1
            return None
        episode = self._open.get(key)
        if episode is None:
            episode_id = f"decision:{key.name}" if key.is_lone else key.name
            rules = self._rules.rewards_of(policy)
            episode = self._open[key] = OpenEpisode(episode_id, rules, is_lone=key.is_lone)
        self._open.move_to_end(key)
        return episode

    def _advance(
        self, key: _Key, episode: OpenEpisode, steps: Iterable[int]
    ) -> Iterator[Transition | Episode]:
        for step in steps:
            self._settle(episode, step)
            if episode.is_ready(step):
                yield self._finish(episode, step)
                yield from self._cut(episode)
        if episode.is_whole:
            yield from self._close(key)

    def _settle(self, episode: OpenEpisode, step: int, *, is_closing: bool = False) -> None:
        held = episode.held_bytes
        self.counts["late"] += episode.settle(step, self._now, is_closing=is_closing)
        self._held_bytes += episode.held_bytes - held

    def _finish(self, episode: OpenEpisode, step: int) -> Transition:
        held = episode.held_bytes
        name, transition = episode.finish(step)
        self._held_bytes += episode.held_bytes - held
        del self._places[name]
        is_windowed = episode.rules.window_seconds is not None
        self._remember(self._past_names, name, "late" if is_windowed else "duplicate")
        self.counts["joined"] += 1
        return transition

    def _cut(self, episode: OpenEpisode) -> Iterator[Episode]:
        held = episode.held_bytes
        while (piece := episode.cut()) is not None:
            self._forget(episode, piece.names)
            self.counts["unknown"] += piece.num_orphans
            yield piece.episode
        self._held_bytes += episode.held_bytes - held

    def _forget(self, episode: OpenEpisode, names: list[str]) -> None:
        for name in names:
            del self._places[name]
            self._remember(self._past_names, name, "late")
            self.unreported[episode.policy or ""] += 1

    def _close(self, key: _Key) -> Iterator[Transition | Episode]:
        episode = self._open.pop(key)
        for step in episode.decided_steps:
            self._settle(episode, step, is_closing=True)
        for step in episode.waiting_outcomes:
            if episode.last_step is not None and step > episode.last_step:
                self.counts["late"] += 1
            elif not episode.is_decided(step):
                self.counts["unknown"] += 1
            elif episode.is_seen(step):
                yield self._finish(episode, step)
            else:
                self.counts["no_history"] += 1
        self._forget(episode, episode.names)
        self._held_bytes -= episode.held_bytes
        self._remember(self._closed, key, "duplicate" if episode.is_whole else "late")
        summary = episode.summary()
        if summary is not None:
            yield summary

    def _evict(self) -> Iterator[Transition | Episode]:
        rules = self._rules
        while len(self._early) > rules.max_open_episodes:
            self._give_up_early()
        while len(self._open) > rules.max_open_episodes:
            self.counts["evicted"] += 1
            yield from self._close(next(iter(self._open)))
        while self._held_bytes > rules.max_held_bytes:
            if self._early:
                self._give_up_early()
            else:
                self.counts["evicted"] += 1
                yield from self._close(next(iter(self._open)))

    def _give_up_early(self) -> None:
        _, outcomes = self._early.popitem(last=False)
        self._held_bytes -= sum(map(outcome_bytes, outcomes))
        self.counts["unknown"] += len(outcomes)

    def _remember(self, names: OrderedDict[_Name, Counted], name: _Name, repeat: Counted) -> None:
        """Note how a repeat counts, forgetting the oldest beyond the limit."""
        names[name] = repeat
        if len(names) > self._rules.remembered:
            names.popitem(last=False)


def _place(episode_id: str | None, step: int | None, decided: Decided) -> _Place:
    if episode_id is None or step is None:
        return _Place(_Key(True, decided.name), 0)
    return _Place(_Key(False, episode_id), step)
