"""What an actor sends: many transitions at once, each frame of them once.

A transition of four frames and the next four would be 56 KB; of its eight frames seven are another
transition's too.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from training.replay import Transitions

Indices = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


class Strip(NamedTuple):
    """M transitions over F frames; what is not stacked is a stack of one."""

    frames: npt.NDArray[Any]
    """Every frame that occurs, once, [F, ...]."""

    observations: Indices
    """Which frames each observation is made of, oldest first, [M, depth]."""

    next_observations: Indices
    actions: npt.NDArray[np.int64]
    rewards: Floats
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]

    steps: npt.NDArray[np.uint8]
    """Environment steps that each transition spans, [M]."""

    errors: Floats
    """How wrong the actor's network was of each, from 0 up: its first priority."""

    @property
    def num_bytes(self) -> int:
        """What is sent."""
        return sum(column.nbytes for column in self)


def make_strips(
    transitions: Transitions,
    steps: npt.NDArray[np.int64],
    errors: Floats,
    *,
    depth: int,
    most_frames: int,
) -> list[Strip]:
    """Put transitions into as few strips as hold them, halving those with too many frames.

    Args:
        transitions: M of them, in any order.
        steps: Environment steps that each spans, [M].
        errors: First priorities, [M].
        depth: Frames of an observation; 1 where they are not stacked.
        most_frames: That a strip may have; at least two observations' worth.
    """
    stacks = [
        _stacked(transitions.observations, depth),
        _stacked(transitions.next_observations, depth),
    ]
    frames, indices = share_frames(np.concatenate(stacks))
    num_rows = len(transitions.actions)
    if len(frames) <= most_frames:
        columns = transitions._replace(
            observations=indices[:num_rows], next_observations=indices[num_rows:]
        )
        return [
            Strip(frames=frames, **columns._asdict(), steps=steps.astype(np.uint8), errors=errors)
        ]
    halves = slice(0, num_rows // 2), slice(num_rows // 2, num_rows)
    return [
        strip
        for half in halves
        for strip in make_strips(
            Transitions._make(column[half] for column in transitions),
            steps[half],
            errors[half],
            depth=depth,
            most_frames=most_frames,
        )
    ]


def share_frames(stacks: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Indices]:
    """Every distinct frame of stacks, [K, depth, ...], once, and which of them each is made of."""
    places: dict[bytes, int] = {}
    distinct: list[npt.NDArray[Any]] = []
    flat = stacks.reshape(-1, *stacks.shape[2:])
    indices = np.empty(len(flat), np.int32)
    for number, frame in enumerate(flat):
        indices[number] = place = places.setdefault(frame.tobytes(), len(places))
        if place == len(distinct):
            distinct.append(frame)
    return np.array(distinct), indices.reshape(stacks.shape[:2])


def _stacked(observations: npt.NDArray[Any], depth: int) -> npt.NDArray[Any]:
    return observations if depth > 1 else observations[:, np.newaxis]
