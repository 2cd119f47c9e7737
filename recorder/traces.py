"""What is left of an episode for those who judge it: no observations, a few numbers a step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from contract.conduct import observation_cells
from contract.drift_reference import ColumnReference, Floats
from contract.records import AnsweredBy
from contract.transitions import Ending, Episode, Transition

_PENDING_STEPS: Final = 64


@dataclass(frozen=True)
class Trace:
    """One closed episode, [steps] each, in the order of its steps."""

    policy: str
    episode_id: str
    answered_by: tuple[AnsweredBy, ...]
    ending: Ending
    is_complete: bool
    started_at: float
    ended_at: float
    rewards: Floats
    actions: npt.NDArray[np.int64]
    cells: npt.NDArray[np.int64]
    """A coarse name for each observation."""
    chosen_q: Floats
    """Q-value of the action that was taken; NaN where the model did not answer."""
    best_q: Floats
    """Largest Q-value; NaN where the model did not answer."""
    last_observation: npt.NDArray[Any] | None
    """What the last action led to, where it is known."""
    audits: tuple[float, ...] = ()
    """What was reported of the audit metric, of the steps of which it was."""

    @property
    def episode_return(self) -> float:
        """The undiscounted sum of rewards."""
        return float(self.rewards.sum())


@dataclass
class _Open:
    steps: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    actions: list[int] = field(default_factory=list)
    chosen_q: list[float] = field(default_factory=list)
    best_q: list[float] = field(default_factory=list)
    audits: dict[int, float] = field(default_factory=dict)
    cells: list[npt.NDArray[np.int64]] = field(default_factory=list)
    waiting: list[npt.NDArray[Any]] = field(default_factory=list)
    last_step: int = -1
    last_observation: npt.NDArray[Any] | None = None


ColumnsOf = Callable[[str, int | None], Sequence[ColumnReference]]
"""The reference of a policy's observations under a version; empty for frames and unknown ones."""


class Traces:
    """Owns what is known of open episodes; takes what the join gives, in its order."""

    def __init__(self, columns_of: ColumnsOf) -> None:
        self._columns_of = columns_of
        self._open: dict[tuple[str, str], _Open] = {}

    @property
    def num_open(self) -> int:
        """Episodes that are not closed."""
        return len(self._open)

    def add(self, item: Transition | Episode) -> Trace | None:
        """Take one item; the trace, where it closes an episode of which any step was joined."""
        match item:
            case Transition():
                # A decision without an episode, or an agent's own transition: nothing closes it.
                if not item.episode_id.startswith(("decision:", "transition:")):
                    self._add(item)
                return None
            case Episode():
                steps = self._open.pop((item.policy, item.episode_id), None)
                return None if steps is None else self._close(item, steps)

    def _add(self, item: Transition) -> None:
        steps = self._open.setdefault((item.policy, item.episode_id), _Open())
        has_q = item.q_values is not None and not np.isnan(item.q_values).any()
        steps.steps.append(item.step)
        steps.rewards.append(item.reward)
        steps.actions.append(item.action)
        q_values = item.q_values if has_q else None
        steps.chosen_q.append(np.nan if q_values is None else float(q_values[item.action]))
        steps.best_q.append(np.nan if q_values is None else float(q_values.max()))
        if item.audit is not None:
            steps.audits[item.step] = item.audit
        steps.waiting.append(item.observation)
        if item.step > steps.last_step:
            steps.last_step, steps.last_observation = item.step, item.next_observation
            if item.terminated:
                # The join puts zeros where nothing follows.
                final = item.next_observation
                is_known = final is not None and final.any()
                steps.last_observation = final if is_known else item.observation
        if len(steps.waiting) >= _PENDING_STEPS:
            self._name_cells(item.policy, item.answered_by.version, steps)

    def _name_cells(self, policy: str, version: int | None, steps: _Open) -> None:
        if steps.waiting:
            observations = np.stack(steps.waiting)
            steps.cells.append(observation_cells(observations, self._columns_of(policy, version)))
            steps.waiting.clear()

    def _close(self, episode: Episode, steps: _Open) -> Trace:
        version = episode.answered_by[0].version if episode.answered_by else None
        self._name_cells(episode.policy, version, steps)
        order = np.argsort(steps.steps)
        return Trace(
            policy=episode.policy,
            episode_id=episode.episode_id,
            answered_by=episode.answered_by,
            ending=episode.ending,
            is_complete=episode.is_complete,
            started_at=episode.started_at,
            ended_at=episode.ended_at,
            rewards=np.array(steps.rewards)[order],
            actions=np.array(steps.actions, dtype=np.int64)[order],
            cells=np.concatenate(steps.cells)[order],
            chosen_q=np.array(steps.chosen_q)[order],
            best_q=np.array(steps.best_q)[order],
            last_observation=steps.last_observation,
            audits=tuple(audit for _, audit in sorted(steps.audits.items())),
        )
