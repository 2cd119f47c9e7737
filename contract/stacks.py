"""Stacks of frames out of an episode's decisions, each of which may hold its newest frame alone.

A step's stack is the frames of the steps up to it; before step 0 stand those that the whole stack
of step 0 begins with. A frame that is not known is never made up: without it there is no stack.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from contract.decided import Decided, decided_rows
from contract.records import DecisionBatch

Array = npt.NDArray[Any]


def is_whole_at(decisions: Mapping[int, Decided], step: int) -> bool:
    """Whether all that was seen at a decided step is known."""
    decided = decisions[step]
    return decided.frame_stack == 1 or all(
        frame is not None for frame in _frames(decisions, step, decided)
    )


def observation_at(decisions: Mapping[int, Decided], step: int) -> Array | None:
    """What was seen at a decided step, [*shape]; None where a frame of it is not known."""
    decided = decisions[step]
    if decided.frame_stack == 1:
        return decided.observation
    frames = [frame for frame in _frames(decisions, step, decided) if frame is not None]
    return np.stack(frames) if len(frames) == decided.frame_stack else None


def push(stack: Array, newest: Array) -> Array:
    """What is seen after `stack`: who sends frames one by one ends with one frame."""
    if newest.shape == stack.shape[1:]:
        return np.concatenate((stack[1:], newest[None]))
    return newest


def _frames(
    decisions: Mapping[int, Decided], step: int, decided: Decided
) -> Iterable[Array | None]:
    depth, newest = decided.frame_stack, decided.observation
    for each in range(step - depth + 1, step + 1):
        holder = decisions.get(max(each, 0))
        if holder is None:
            yield None
        elif holder.frame_stack > 1:
            yield holder.observation if each >= 0 and _fits(holder.observation, newest) else None
        elif len(holder.observation) == depth and _fits(holder.observation[-1], newest):
            # Of a whole stack: its newest frame is the step's own.
            yield holder.observation[min(each, 0) - 1]
        else:
            yield None


def _fits(one: Array, other: Array) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype


class Histories:
    """The latest decisions of episodes that are read in order, to make their stacks whole.

    What is out of order or missing leaves stacks unknown; the join, which waits, knows more.
    """

    def __init__(self, max_episodes: int = 2_000) -> None:
        self._max_episodes = max_episodes
        self._episodes: OrderedDict[str, dict[int, Decided]] = OrderedDict()

    def whole_rows(self, batch: DecisionBatch) -> tuple[list[int], list[Array]]:
        """The rows of which all that was seen is known, and that, [*shape] each."""
        rows, observations = [], []
        for row, (episode_id, step, decided) in enumerate(decided_rows(batch)):
            observation = self._observation(episode_id, step or 0, decided)
            if observation is not None:
                rows.append(row)
                observations.append(observation)
        return rows, observations

    def _observation(self, episode_id: str | None, step: int, decided: Decided) -> Array | None:
        if episode_id is None:
            return observation_at({step: decided}, step)
        known = self._episodes.setdefault(episode_id, {})
        self._episodes.move_to_end(episode_id)
        known[step] = decided
        for each in [each for each in known if each <= step - decided.frame_stack]:
            del known[each]
        if len(self._episodes) > self._max_episodes:
            self._episodes.popitem(last=False)
        return observation_at(known, step)
