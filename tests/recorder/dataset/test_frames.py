from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest

from contract.declaration import ObservationSpec
from contract.frames import FrameStack
from recorder.dataset.frames import UNKNOWN_ROW, FrameLayout, FramePacker, FrameReader

FRAME = (5, 3)


def stacks(
    length: int, first_frames: Literal["repeat", "zeros"] = "repeat"
) -> npt.NDArray[np.uint8]:
    """An episode's stacks of four random frames, as the service fills and pushes them."""
    spec = ObservationSpec(
        shape=(4, *FRAME), dtype="uint8", frame_stack=4, first_frames=first_frames
    )
    stack = FrameStack(spec)
    frames = np.random.default_rng(3).integers(1, 256, (length, *FRAME), np.uint8)
    pushed = [stack.push(frame, step) for step, frame in enumerate(frames)]
    return np.stack([each for each in pushed if each is not None])


def pack(observations: npt.NDArray[Any]) -> tuple[FramePacker, list[int]]:
    packer = FramePacker(FrameLayout(observations.shape[1:], observations.dtype.name))
    return packer, [packer.add(each) for each in observations]


def reader_of(packer: FramePacker, layout: FrameLayout, max_held_bytes: int = 0) -> FrameReader:
    chunks = packer.finish()
    counts = np.array([chunk.num_rows for chunk in chunks], np.int64)
    return FrameReader(layout, [chunk.content for chunk in chunks], counts, max_held_bytes)


@pytest.mark.parametrize("first_frames", ["repeat", "zeros"])
def test_each_frame_is_stored_once_and_stacks_come_back_as_they_were_filled(
    first_frames: Literal["repeat", "zeros"],
) -> None:
    seen = stacks(20, first_frames)
    packer, rows = pack(seen)
    # The three that fill the first stack, and one a step.
    assert packer.num_rows == 3 + 20
    restored = reader_of(packer, FrameLayout((4, *FRAME), "uint8")).read(np.array(rows))
    np.testing.assert_array_equal(restored, seen)


def test_a_stack_that_does_not_follow_is_stored_whole_and_so_is_not_mixed_up() -> None:
    seen = stacks(20)[[0, 1, 7, 8]]
    packer, rows = pack(seen)
    assert packer.num_rows == 4 + 1 + 4 + 1
    restored = reader_of(packer, FrameLayout((4, *FRAME), "uint8")).read(np.array(rows))
    np.testing.assert_array_equal(restored, seen)


def test_an_observation_seen_twice_in_a_row_is_one_row() -> None:
    _, rows = pack(stacks(6)[[0, 1, 1, 2]])
    assert rows == [3, 4, 4, 5]


def test_vectors_come_back_bit_for_bit() -> None:
    seen = np.array([[0.0], [-0.0], [np.nan], [0.1], [np.inf]], np.float32)
    packer, rows = pack(seen)
    assert rows == [0, 1, 2, 3, 4]
    restored = reader_of(packer, FrameLayout((1,), "float32")).read(np.array(rows))
    assert restored.tobytes() == seen.tobytes()


def test_an_image_that_is_no_stack_comes_back_as_it_was() -> None:
    seen = np.random.default_rng(5).integers(0, 256, (9, 3, 4, 4), np.uint8)
    packer, rows = pack(seen)
    restored = reader_of(packer, FrameLayout((3, 4, 4), "uint8")).read(np.array(rows))
    np.testing.assert_array_equal(restored, seen)


@pytest.mark.parametrize("max_held_bytes", [0, 2**20, 2**30])
def test_rows_of_any_order_are_read_across_chunks(max_held_bytes: int) -> None:
    seen = np.random.default_rng(7).integers(0, 256, (200, 4, 90, 90), np.uint8)
    packer, rows = pack(seen)
    layout = FrameLayout((4, 90, 90), "uint8")
    # 800 frames of 8,100 B in chunks of 512 KiB.
    reader = reader_of(packer, layout, max_held_bytes)
    order = np.random.default_rng(8).permutation(200)
    for _ in range(2):
        restored = reader.read(np.array(rows)[order])
        np.testing.assert_array_equal(restored, seen[order])


def test_an_unknown_observation_is_zeros_wherever_it_stands() -> None:
    seen = stacks(3)
    packer, rows = pack(seen)
    reader = reader_of(packer, FrameLayout((4, *FRAME), "uint8"))
    restored = reader.read(np.array([UNKNOWN_ROW, rows[2], UNKNOWN_ROW]))
    np.testing.assert_array_equal(
        restored, [np.zeros_like(seen[2]), seen[2], np.zeros_like(seen[2])]
    )
    np.testing.assert_array_equal(reader.read(np.array([UNKNOWN_ROW])), np.zeros((1, 4, *FRAME)))


def test_frames_that_wait_are_held_compressed() -> None:
    frames = np.zeros((3000, 4, 84, 84), np.uint8)
    frames[:, :, 40, 40] = (np.arange(3000)[:, None] + np.arange(4)) % 256
    packer, _ = pack(frames)
    assert packer.num_rows == 3003
    # 21 MB as they are; at most one chunk of 512 KiB waits unpacked.
    assert packer.num_bytes < 900_000


def test_an_observation_of_another_shape_or_dtype_is_refused() -> None:
    packer, _ = pack(stacks(2))
    with pytest.raises(ValueError, match=r"expected uint8 of shape \(4, 5, 3\)"):
        packer.add(np.zeros((4, 5, 2), np.uint8))
    with pytest.raises(ValueError, match="found float32"):
        packer.add(np.zeros((4, 5, 3), np.float32))


def test_observations_that_were_not_logged_take_no_room() -> None:
    packer, rows = pack(np.zeros((5, 0), np.uint8))
    restored = reader_of(packer, FrameLayout((0,), "uint8")).read(np.array(rows))
    assert restored.shape == (5, 0)
