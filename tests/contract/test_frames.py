from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest

from contract.declaration import ObservationSpec
from contract.frames import FrameStack, ScreenPreprocessing, grey, resize_area


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


def area_means(screen: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.int64]:
    """Rounded means over areas, by blowing each axis up until areas are whole pixels."""
    old_height, old_width = screen.shape
    rows = screen.astype(np.int64).repeat(height, axis=0).reshape(height, old_height, old_width)
    columns = rows.sum(axis=1).repeat(width, axis=1).reshape(height, width, old_width)
    pixels = old_height * old_width
    means: npt.NDArray[np.int64] = (2 * columns.sum(axis=2) + pixels) // (2 * pixels)
    return means


@pytest.mark.parametrize(
    ("shape", "new_shape"),
    [((210, 160), (84, 84)), ((160, 160), (84, 84)), ((7, 5), (3, 4)), ((3, 2), (7, 5))],
)
def test_a_new_pixel_is_the_mean_of_the_area_it_covers(
    shape: tuple[int, int], new_shape: tuple[int, int]
) -> None:
    screen = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    np.testing.assert_array_equal(resize_area(screen, *new_shape), area_means(screen, *new_shape))


def test_a_white_screen_stays_white() -> None:
    assert resize_area(np.full((210, 160), 255, np.uint8), 84, 84).min() == 255


def test_grey_weighs_green_most_and_rounds() -> None:
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], np.uint8)
    # 76.22, 149.69, 29.07 and 254.97
    assert grey(colours).tolist() == [76, 150, 29, 255]


def test_rgb_screens_and_their_grey_make_the_same_frame() -> None:
    screens = np.random.default_rng(3).integers(0, 256, (2, 210, 160, 3)).astype(np.uint8)
    preprocessing = ScreenPreprocessing(crop_top=10)
    np.testing.assert_array_equal(preprocessing.frame(screens), preprocessing.frame(grey(screens)))


def test_cropped_rows_leave_no_trace() -> None:
    screen = np.zeros((1, 210, 160), np.uint8)
    screen[0, :34], screen[0, -16:] = 200, 100
    assert ScreenPreprocessing(crop_top=34, crop_bottom=16).frame(screen).max() == 0
    assert ScreenPreprocessing(crop_top=33, crop_bottom=16).frame(screen).max() > 0


@pytest.mark.parametrize("shape", [(210, 160), (2, 210, 160, 4)])
def test_screens_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[K, H, W, 3\]"):
        ScreenPreprocessing().frame(np.zeros(shape, np.uint8))


def test_a_crop_of_everything_is_refused() -> None:
    with pytest.raises(ValueError, match="all cropped"):
        ScreenPreprocessing(crop_top=200, crop_bottom=10).frame(np.zeros((1, 210, 160), np.uint8))
