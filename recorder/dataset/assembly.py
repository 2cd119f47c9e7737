"""Whole episodes out of what the join gives, packed as their steps come."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from contract.records import AnsweredBy
from contract.transitions import Circumstances, Ending, Episode, Transition
from recorder.dataset.frames import UNKNOWN_ROW, Chunk, FrameLayout, FramePacker

PIECE_MARK: Final = "#"
"""What the join puts between the id of a task that never ends and the number of a piece of it."""


class Step(NamedTuple):
    """One step of an episode; its observations stand in the episode's chunks."""

    step: int
    observation_row: int
    next_observation_row: int
    """UNKNOWN_ROW where nothing is known of it, or where the episode truly ended."""
    action: int
    reward: float
    terminated: bool
    truncated: bool
    propensity: float | None
    answered_by: AnsweredBy
    q_values: npt.NDArray[np.float16] | None
    time: float
    """Unix seconds of the decision."""
    reported_at: float
    """Unix seconds of the outcome."""
    circumstances: Circumstances


@dataclass(frozen=True)
class PackedEpisode:
    """One closed episode as a part of the dataset takes it."""

    episode: Episode
    schema_hash: str
    layout: FrameLayout
    steps: list[Step]
    """Ascending."""
    chunks: list[Chunk]
    num_rows: int

    @property
    def num_bytes(self) -> int:
        """About what its observations take on disk."""
        return sum(len(chunk.content) for chunk in self.chunks)


class _Reported(NamedTuple):
    since: float
    latest: float


class Assembler:
    """Owns the steps of episodes that are not closed yet.

    `add` what the join gives for decisions and outcomes, which tells when an episode is closed; it
    does not for transitions that were reported whole: `add_reported` takes those, and closes their
    episodes when every step up to the last one is there, or by `close_silent`.
    """

    def __init__(self) -> None:
        self._open: dict[str, _OpenSteps] = {}
        self._reported: dict[str, _Reported] = {}
        self.num_strangers = 0
        """Steps left out since their observations are not of their episode's shape and schema."""

    @property
    def open_since(self) -> float | None:
        """Time of the earliest open transition that was reported whole; Unix seconds."""
        return min((each.since for each in self._reported.values()), default=None)

    def add(self, item: Transition | Episode) -> Iterator[PackedEpisode]:
        """Take one item of the join; the episode that it closes."""
        if isinstance(item, Transition):
            self._put(item)
            return
        steps = self._open.pop(item.episode_id, None)
        if steps is None:
            # A piece of a task that never ends: its first steps are the piece, the rest goes on.
            task_id = item.episode_id.rpartition(PIECE_MARK)[0]
            steps = self._open.pop(task_id, None)
            rest = None if steps is None else steps.cut(len(item.rewards))
            if rest is not None:
                self._open[task_id] = rest
        if steps is not None and not steps.is_empty:
            yield steps.finish(item)

    def add_lone(self, transition: Transition) -> Iterator[PackedEpisode]:
        """Take a transition that belongs to no episode: it is one by itself."""
        self._put(transition)
        yield from self._close(transition.episode_id, transition.time)

    def add_reported(self, transition: Transition) -> Iterator[PackedEpisode]:
        """Take a transition that its agent reported whole; the episode that it closes."""
        self._put(transition)
        episode_id, time = transition.episode_id, transition.time
        since, latest = self._reported.get(episode_id, _Reported(time, time))
        self._reported[episode_id] = _Reported(min(since, time), max(latest, time))
        if self._open[episode_id].is_whole:
            yield from self._close(episode_id, max(latest, time))

    def close_silent(self, before: float) -> Iterator[PackedEpisode]:
        """Close what was reported whole and has been silent since `before`, Unix seconds."""
        for episode_id, (_, latest) in list(self._reported.items()):
            if latest < before:
                yield from self._close(episode_id, latest)

    def _put(self, transition: Transition) -> None:
        steps = self._open.get(transition.episode_id)
        if steps is None:
            seen = transition.observation
            layout = FrameLayout(seen.shape, seen.dtype.name)
            steps = _OpenSteps(transition.policy, transition.schema_hash, layout)
            self._open[transition.episode_id] = steps
        if not steps.add(transition):
            self.num_strangers += 1

    def _close(self, episode_id: str, ended_at: float) -> Iterator[PackedEpisode]:
        self._reported.pop(episode_id, None)
        steps = self._open.pop(episode_id)
        if not steps.is_empty:
            yield steps.finish(steps.summary(episode_id, ended_at))


class _OpenSteps:
    """The steps of one episode so far. Steps of another schema than the first are strangers."""

    def __init__(self, policy: str, schema_hash: str, layout: FrameLayout) -> None:
        self._policy = policy
        self._schema_hash = schema_hash
        self._layout = layout
        self._packer = FramePacker(layout)
        self._steps: dict[int, Step] = {}
        self._last_step: int | None = None

    @property
    def is_empty(self) -> bool:
        """All that came were strangers."""
        return not self._steps

    @property
    def is_whole(self) -> bool:
        """Every step up to the one that ends the episode is there."""
        last = self._last_step
        return last is not None and all(step in self._steps for step in range(last + 1))

    def add(self, transition: Transition) -> bool:
        """Take a step; False where it is a stranger. Of two with one number the first stands."""
        if transition.schema_hash != self._schema_hash:
            return False
        if transition.step in self._steps:
            return True
        try:
            row = self._packer.add(transition.observation)
            next_row = self._next_row(transition)
        except ValueError:
            return False
        self._steps[transition.step] = Step(
            step=transition.step,
            observation_row=row,
            next_observation_row=next_row,
            action=transition.action,
            reward=transition.reward,
            terminated=transition.terminated,
            truncated=transition.truncated,
            propensity=transition.propensity,
            answered_by=transition.answered_by,
            q_values=transition.q_values,
            time=transition.time,
            reported_at=transition.reported_at,
            circumstances=transition.circumstances,
        )
        if transition.terminated or transition.truncated:
            self._last_step = transition.step
        return True

    def cut(self, num_steps: int) -> "_OpenSteps | None":
        """Keep the first steps, and give those that follow as an episode of their own."""
        beyond = [self._steps.pop(step) for step in sorted(self._steps)[num_steps:]]
        if not beyond:
            return None
        rows = [row for step in beyond for row in (step.observation_row, step.next_observation_row)]
        seen = self._packer.read(np.array(rows))
        rest = _OpenSteps(self._policy, self._schema_hash, self._layout)
        for number, step in enumerate(beyond):
            row = rest._packer.add(seen[2 * number])
            next_row = UNKNOWN_ROW
            if step.next_observation_row != UNKNOWN_ROW:
                next_row = rest._packer.add(seen[2 * number + 1])
            rest._steps[step.step] = step._replace(
                observation_row=row, next_observation_row=next_row
            )
        return rest

    def summary(self, episode_id: str, ended_at: float) -> Episode:
        """What the join tells of an episode that it saw decided."""
        steps = [self._steps[step] for step in sorted(self._steps)]
        return Episode(
            policy=self._policy,
            episode_id=episode_id,
            ending=_ending(steps[-1]),
            rewards=tuple(step.reward for step in steps),
            is_complete=self.is_whole,
            answered_by=tuple(dict.fromkeys(step.answered_by for step in steps)),
            started_at=min(step.time for step in steps),
            ended_at=ended_at,
        )

    def finish(self, episode: Episode) -> PackedEpisode:
        """The episode, packed; strangers are no part of it."""
        steps = [self._steps[step] for step in sorted(self._steps)]
        if len(steps) < len(episode.rewards):
            rewards = tuple(step.reward for step in steps)
            episode = replace(episode, rewards=rewards, is_complete=False)
        return PackedEpisode(
            episode=episode,
            schema_hash=self._schema_hash,
            layout=self._layout,
            steps=steps,
            chunks=self._packer.finish(),
            num_rows=self._packer.num_rows,
        )

    def _next_row(self, transition: Transition) -> int:
        following = transition.next_observation
        if following is None or (transition.terminated and not following.any()):
            return UNKNOWN_ROW
        return self._packer.add(following)


def _ending(last: Step) -> Ending:
    if last.terminated:
        return "terminated"
    return "truncated" if last.truncated else "timed_out"
