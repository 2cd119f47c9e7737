from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest

from contract.declaration import ObservationSpec
from contract.frames import FrameStack


def spec(first_frames: Literal["repeat", "zeros"] = "repeat") -> ObservationSpec:
    return ObservationSpec(shape=(3, 2), dtype="uint8", frame_stack=3, first_frames=first_frames)


def frame(value: int) -> npt.NDArray[np.uint8]:
    return np.full(2, value, dtype=np.uint8)


def pushed(stack: FrameStack, value: int, step: int) -> list[int] | None:
    """The first element of each frame of the stack after a push."""
    whole = stack.push(frame(value), step)
    return None if whole is None else whole[:, 0].tolist()


def test_an_episode_begins_with_its_first_frame_repeated() -> None:
    stack = FrameStack(spec())
    assert [pushed(stack, 10 + step, step) for step in range(4)] == [
        [10, 10, 10],
        [10, 10, 11],
        [10, 11, 12],
        [11, 12, 13],
    ]


def test_an_episode_begins_with_zeros_where_training_did() -> None:
    stack = FrameStack(spec("zeros"))
    assert [pushed(stack, 10 + step, step) for step in range(3)] == [
        [0, 0, 10],
        [0, 10, 11],
        [10, 11, 12],
    ]


def test_a_stack_whose_beginning_was_not_seen_is_whole_after_as_many_frames_as_it_holds() -> None:
    stack = FrameStack(spec())
    assert [pushed(stack, 10 + step, step) for step in (5, 6, 7, 8)] == [
        None,
        None,
        [15, 16, 17],
        [16, 17, 18],
    ]


def test_a_missing_step_makes_the_stack_unknown_again() -> None:
    stack = FrameStack(spec())
    stack.push(frame(10), 0)
    stack.push(frame(11), 1)
    assert [pushed(stack, 10 + step, step) for step in (3, 4, 5)] == [None, None, [13, 14, 15]]


def test_a_stack_that_was_given_out_is_never_written_to_again() -> None:
    stack = FrameStack(spec())
    first = stack.push(frame(10), 0)
    assert first is not None
    stack.push(frame(11), 1)
    assert first[:, 0].tolist() == [10, 10, 10]


def test_a_stack_of_bare_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"frame_stack 4 must be the first of several axes"):
        ObservationSpec(shape=(4,), frame_stack=4)
