import numpy as np
import torch

from contract.declaration import ObservationSpec
from training.apex.shard import Shard, as_batch
from training.apex.strips import Strip

STACKED = ObservationSpec(shape=(2, 3), dtype="uint8", frame_stack=2)


def strip(first: int, num_rows: int, errors: float | list[float] = 1.0) -> Strip:
    """Row r's observation is frames [first + r, first + r + 1], and its reward first + r."""
    numbers = np.arange(num_rows)
    frames = np.arange(first, first + num_rows + 2, dtype=np.uint8)
    return Strip(
        frames=np.repeat(frames[:, None], 3, axis=1),
        observations=np.stack([numbers, numbers + 1], axis=1).astype(np.int32),
        next_observations=np.stack([numbers + 1, numbers + 2], axis=1).astype(np.int32),
        actions=numbers % 2,
        rewards=(first + numbers).astype(np.float32),
        terminated=numbers == num_rows - 1,
        truncated=np.zeros(num_rows, np.bool_),
        steps=np.full(num_rows, 3, np.uint8),
        errors=np.broadcast_to(np.array(errors, np.float32), num_rows),
    )


def shard(num_strips: int = 2) -> Shard:
    return Shard(
        STACKED,
        num_strips=num_strips,
        rows_per_strip=4,
        frames_per_strip=6,
        priority_exponent=1.0,
        seed=(0,),
    )


def rewards(of: Shard, size: int = 400) -> set[float]:
    draw = of.draw(size, correction=1.0, fewest=1)
    assert draw is not None
    return set(draw.batch["rewards"].tolist())


def test_a_drawn_row_has_the_frames_that_were_sent() -> None:
    one = shard()
    one.add([strip(10, 4), strip(50, 3)])
    draw = one.draw(200, correction=1.0, fewest=1)
    assert draw is not None
    batch = as_batch(draw)
    assert batch.observations.shape == (200, 2, 3)
    firsts = batch.rewards.to(torch.uint8)
    assert torch.equal(batch.observations[:, 0, 0], firsts)
    assert torch.equal(batch.observations[:, 1, 2], firsts + 1)
    assert torch.equal(batch.next_observations[:, 1, 0], firsts + 2)
    assert set(firsts.tolist()) == {10, 11, 12, 13, 50, 51, 52}
    assert batch.steps.tolist() == [3] * 200


def test_the_oldest_strip_makes_room_and_a_shorter_one_leaves_nothing_of_it() -> None:
    one = shard(num_strips=2)
    assert one.add([strip(10, 4), strip(20, 4)]) == 8
    assert one.add([strip(30, 2)]) == 6
    assert rewards(one) == {20.0, 21.0, 22.0, 23.0, 30.0, 31.0}


def test_transitions_are_drawn_by_the_errors_that_came_with_them() -> None:
    one = shard()
    one.add([strip(10, 4, [0.0, 30.0, 0.0, 10.0])])
    draw = one.draw(4000, correction=1.0, fewest=1)
    assert draw is not None
    values, counts = np.unique(draw.batch["rewards"], return_counts=True)
    assert values[counts > 100].tolist() == [11.0, 13.0]
    assert 2.8 < counts[values == 11.0] / counts[values == 13.0] < 3.2
    # What is drawn three times as often counts a third.
    weights = draw.batch["weights"]
    ratio = weights[draw.batch["rewards"] == 11.0][0] / weights[draw.batch["rewards"] == 13.0][0]
    assert abs(ratio - 1 / 3) < 1e-3


def test_errors_that_were_learned_decide_the_next_draw() -> None:
    one = shard()
    one.add([strip(10, 4)])
    one.learned(np.arange(4), np.ones(4, np.int64), np.array([0, 0, 9, 0], np.float32))
    draw = one.draw(100, correction=1.0, fewest=1)
    assert draw is not None
    assert (draw.batch["rewards"] == 12.0).mean() > 0.98


def test_errors_of_what_has_been_overwritten_change_nothing() -> None:
    one = shard(num_strips=1)
    one.add([strip(10, 4)])
    stale = one.draw(2, correction=1.0, fewest=1)
    assert stale is not None
    one.add([strip(20, 4)])
    one.learned(stale.slots, stale.generations, np.array([1e6, 1e6], np.float32))
    assert rewards(one) == {20.0, 21.0, 22.0, 23.0}


def test_a_shard_with_too_little_gives_nothing() -> None:
    one = shard()
    one.add([strip(10, 3)])
    assert one.draw(2, correction=1.0, fewest=4) is None
    assert one.draw(2, correction=1.0, fewest=3) is not None
    assert shard().draw(2, correction=1.0, fewest=0) is None
