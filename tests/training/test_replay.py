import numpy as np
import pytest
import torch

from tests.training.builders import numbered_transitions
from training.replay import Batch, ReplayBuffer


def buffer(capacity: int) -> ReplayBuffer:
    return ReplayBuffer(capacity, (2,), np.float32)


def drawn_numbers(replay: ReplayBuffer, size: int = 500) -> set[float]:
    return set(replay.sample(size, np.random.default_rng(0)).rewards.tolist())


def test_an_empty_buffer_refuses_to_be_sampled() -> None:
    with pytest.raises(ValueError, match="empty"):
        buffer(4).sample(1, np.random.default_rng(0))


def test_half_full_buffer_never_draws_an_empty_slot() -> None:
    replay = buffer(100)
    replay.add(numbered_transitions(7, 3))
    assert drawn_numbers(replay) == {7.0, 8.0, 9.0}


def test_the_oldest_transitions_make_room_when_an_addition_wraps() -> None:
    replay = buffer(5)
    replay.add(numbered_transitions(0, 4))
    replay.add(numbered_transitions(4, 3))
    assert len(replay) == 5
    assert drawn_numbers(replay) == {2.0, 3.0, 4.0, 5.0, 6.0}


def test_the_fields_of_a_drawn_transition_belong_together() -> None:
    replay = buffer(50)
    replay.add(numbered_transitions(0, 50))
    batch = replay.sample(200, np.random.default_rng(0))
    numbers = batch.rewards
    torch.testing.assert_close(batch.observations, torch.stack([numbers, numbers + 0.5], dim=1))
    torch.testing.assert_close(
        batch.next_observations, torch.stack([numbers + 1, numbers + 1.5], dim=1)
    )
    assert torch.equal(batch.actions, numbers.long() % 5)
    assert torch.equal(batch.terminated, numbers % 3 == 0)
    assert torch.equal(batch.truncated, numbers % 7 == 0)


def test_every_slot_is_drawn_equally_often() -> None:
    replay = buffer(10)
    replay.add(numbered_transitions(0, 10))
    numbers = replay.sample(20_000, np.random.default_rng(0)).rewards.long()
    # Six standard deviations of a binomial count of mean 2000.
    assert torch.bincount(numbers).sub(2000).abs().max() < 6 * 42.4


def test_a_drawn_batch_is_not_changed_by_what_is_added_later() -> None:
    replay = buffer(2)
    replay.add(numbered_transitions(0, 2))
    batch = replay.sample(8, np.random.default_rng(0))
    before = batch.rewards.clone()
    replay.add(numbered_transitions(70, 2))
    assert torch.equal(batch.rewards, before)


def test_a_restored_buffer_draws_and_overwrites_as_the_saved_one() -> None:
    saved, restored = buffer(5), buffer(5)
    saved.add(numbered_transitions(0, 7))
    restored.load_tensors({name: tensor.clone() for name, tensor in saved.tensors().items()})
    batches: list[Batch] = []
    for replay in (saved, restored):
        replay.add(numbered_transitions(20, 1))
        batches.append(replay.sample(30, np.random.default_rng(0)))
    for column, restored_column in zip(*batches, strict=True):
        assert torch.equal(column, restored_column)
