from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from training.frame_replay import FrameReplay, ReturnRule
from training.frame_stores import CompressedFrames, FrameStore, RawFrames
from training.n_step import NStepAccumulator
from training.replay import Batch, Changed, Transitions

DEPTH = 3
FRAME = (2, 2)


class Walk:
    """Steps of several environments whose every frame, action and reward is a number of its own.

    Episodes of lane k end, by turns truly and by a limit, every 4 + k steps. Their first stacks
    are by turns one frame repeated and frames of their own, as after a lost life.
    """

    def __init__(self, num_lanes: int) -> None:
        self._num_lanes = num_lanes
        self._next_frame = 0
        self._time = 0
        self._stacks = [self._first_stack(lane) for lane in range(num_lanes)]

    def step(self) -> Transitions:
        self._time += 1
        observations = np.array(self._stacks)
        lengths = 4 + np.arange(self._num_lanes)
        ended = self._time % lengths == 0
        is_limit = (self._time // lengths) % 2 == 0
        next_stacks = [np.array([*stack[1:], self._frame()]) for stack in self._stacks]
        self._stacks = [
            self._first_stack(lane) if ended[lane] else next_stacks[lane]
            for lane in range(self._num_lanes)
        ]
        return Transitions(
            observations=observations,
            actions=observations[:, -1, 0, 0].astype(np.int64) * 2,
            rewards=observations[:, -1, 0, 0].astype(np.float32),
            next_observations=np.array(next_stacks),
            terminated=ended & ~is_limit,
            truncated=ended & is_limit,
        )

    def begin_anew(self) -> None:
        self._stacks = [self._first_stack(lane) for lane in range(self._num_lanes)]

    def _first_stack(self, lane: int) -> npt.NDArray[Any]:
        if (self._time + lane) % 2 == 0:
            return np.repeat(self._frame()[np.newaxis], DEPTH, axis=0)
        return np.array([self._frame() for _ in range(DEPTH)])

    def _frame(self) -> npt.NDArray[Any]:
        self._next_frame += 1
        return np.full(FRAME, self._next_frame, np.uint16)


def store(kind: str, capacity: int) -> FrameStore:
    if kind == "raw":
        return RawFrames(capacity, FRAME, np.uint16)
    return CompressedFrames(capacity, FRAME, np.uint16)


def frame_replay(
    kind: str = "raw", capacity: int = 60, lanes: int = 2, n_step: int = 1
) -> FrameReplay:
    return FrameReplay(store(kind, capacity), capacity, lanes, DEPTH, ReturnRule(n_step, 0.5))


def by_action(batch: Batch) -> dict[int, list[Any]]:
    """Each drawn transition, all its fields as plain values, under its action, which is unique."""
    columns = [column.tolist() for column in batch]
    return {row[1]: list(row) for row in zip(*columns, strict=True)}


@pytest.mark.parametrize("kind", ["raw", "compressed"])
@pytest.mark.parametrize("n_step", [1, 3])
# 25 steps stay below the capacity of a lane, 200 go round it many times.
@pytest.mark.parametrize("num_steps", [20, 200])
def test_stacks_and_returns_are_those_of_transitions_kept_whole(
    kind: str, n_step: int, num_steps: int
) -> None:
    replay, walk = frame_replay(kind, 90, 3, n_step), Walk(3)
    accumulator = NStepAccumulator(n_step, 0.5)
    expected: dict[int, list[Any]] = {}
    for _ in range(num_steps):
        step = walk.step()
        replay.add(step)
        ready = accumulator.add([step])
        if ready is not None:
            transitions, spans = ready
            rows = zip(*(column.tolist() for column in (*transitions, spans)), strict=True)
            expected |= {row[1]: [*row, 1.0] for row in rows}
    found = by_action(replay.batch(replay.draw(3_000, np.random.default_rng(0))))
    assert len(found) == len(replay)
    # At least the latest three quarters of what fits: ends and beginnings take frames as well.
    assert len(found) > min(num_steps * 3 - 9, 40)
    assert found == {action: expected[action] for action in found}


@pytest.mark.parametrize("n_step", [1, 3])
def test_a_cut_ends_the_episodes_under_way_before_their_last_step(n_step: int) -> None:
    replay, walk, accumulator = (
        frame_replay("raw", 90, 3, n_step),
        Walk(3),
        NStepAccumulator(n_step, 0.5),
    )
    expected: dict[int, list[Any]] = {}
    # Of three lanes one ends by itself at step 10; the other two are cut there.
    is_cut = np.array([True, False, True])
    lost: list[int] = []
    for number in range(1, 26):
        step = walk.step()
        replay.add(step)
        if number == 10:
            replay.cut()
            walk.begin_anew()
            assert (step.terminated | step.truncated).tolist() == (~is_cut).tolist()
            lost = step.actions[is_cut].tolist()
        if number == 9:
            step = step._replace(truncated=step.truncated | is_cut)
        ready = accumulator.add([step])
        if ready is not None:
            transitions, spans = ready
            rows = zip(*(column.tolist() for column in (*transitions, spans)), strict=True)
            expected |= {row[1]: [*row, 1.0] for row in rows}
    found = by_action(replay.batch(replay.draw(3_000, np.random.default_rng(0))))
    assert len(found) > 50
    assert found == {action: expected[action] for action in found}
    assert not found.keys() & set(lost)


def test_every_step_that_can_be_drawn_is_drawn_equally_often() -> None:
    replay, walk = frame_replay(capacity=40, lanes=2), Walk(2)
    for _ in range(100):
        replay.add(walk.step())
    counts = np.bincount(replay.draw(40_000, np.random.default_rng(0)))
    drawn = counts[counts > 0]
    expected = 40_000 / len(replay)
    assert len(drawn) == len(replay)
    assert np.abs(drawn - expected).max() < 6 * expected**0.5


def tracked(replay: FrameReplay, num_steps: int) -> set[int]:
    """What a caller who heeds `Changed` may draw after some steps."""
    walk, known = Walk(2), set[int]()
    for _ in range(num_steps):
        changed: Changed = replay.add(walk.step())
        known -= set(changed.gone.tolist())
        known |= set(changed.ready.tolist())
    return known


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("num_steps", [1, 2, 17, 90])
def test_slots_are_told_when_they_can_be_drawn_and_when_no_more(
    n_step: int, num_steps: int
) -> None:
    replay = frame_replay(n_step=n_step, capacity=40)
    known = tracked(replay, num_steps)
    drawn = replay.draw(3_000, np.random.default_rng(0)) if len(replay) else np.empty(0)
    assert known == set(drawn.tolist())


def test_a_step_that_nothing_follows_yet_cannot_be_drawn() -> None:
    replay, walk = frame_replay(), Walk(2)
    replay.add(walk.step())
    with pytest.raises(ValueError, match="empty"):
        replay.draw(1, np.random.default_rng(0))


def test_one_step_takes_one_frame() -> None:
    written: list[int] = []

    class Counting(RawFrames):
        def write(self, slots: npt.NDArray[np.int64], frames: npt.NDArray[Any]) -> None:
            written.extend(slots.tolist())
            super().write(slots, frames)

    replay = FrameReplay(Counting(1_000, FRAME, np.uint16), 1_000, 1, DEPTH, ReturnRule(1, 0.5))
    walk = Walk(1)
    for _ in range(8):
        replay.add(walk.step())
    # Two episodes of 4, each of which begins with one frame repeated and has a last one.
    assert len(written) == len(set(written)) == 8 + 2


@pytest.mark.parametrize("kind", ["raw", "compressed"])
@pytest.mark.parametrize("num_steps", [5, 63])
def test_a_restored_replay_goes_on_as_the_saved_one(kind: str, num_steps: int) -> None:
    saved, restored, walk = frame_replay(kind), frame_replay(kind), Walk(2)
    for _ in range(num_steps):
        saved.add(walk.step())
    restored.load_tensors({name: tensor.clone() for name, tensor in saved.tensors().items()})
    for _ in range(6):
        step = walk.step()
        saved.add(step)
        restored.add(step)
    batches = [each.batch(each.draw(100, np.random.default_rng(0))) for each in (saved, restored)]
    for first, second in zip(*batches, strict=True):
        assert torch.equal(first, second)
