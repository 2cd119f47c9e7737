import numpy as np
import pytest

from training.prioritised import Priorities


def priorities(exponent: float, errors: list[float]) -> Priorities:
    made = Priorities(8, exponent)
    slots = np.arange(len(errors))
    made.admit(slots)
    made.update(slots, np.array(errors, np.float32))
    return made


def shares(drawn_from: Priorities, size: int = 64) -> list[float]:
    rng = np.random.default_rng(0)
    slots = np.concatenate([drawn_from.draw(size, rng) for _ in range(500)])
    found: list[float] = (np.bincount(slots, minlength=8) / len(slots)).tolist()
    return found


def test_slots_are_drawn_in_proportion_to_the_power_of_their_errors() -> None:
    # 1**0.5, 4**0.5, 9**0.5 of 6; without the power 16/14 times off.
    assert shares(priorities(0.5, [1.0, 4.0, 9.0]))[:4] == pytest.approx(
        [1 / 6, 2 / 6, 3 / 6, 0.0], abs=0.003
    )


def test_an_exponent_of_nothing_draws_evenly() -> None:
    assert shares(priorities(0.0, [1.0, 4.0, 9.0]))[:3] == pytest.approx([1 / 3] * 3, abs=0.003)


def test_what_is_new_has_the_largest_priority_so_far() -> None:
    made = priorities(1.0, [1.0, 6.0])
    made.update(np.array([1]), np.array([2.0], np.float32))
    made.admit(np.array([2]))
    # 1, 2 and the 6 that was once seen.
    assert shares(made)[:3] == pytest.approx([1 / 9, 2 / 9, 6 / 9], abs=0.003)


def test_an_error_of_zero_can_still_be_drawn_and_what_is_forgotten_cannot() -> None:
    made = priorities(1.0, [0.0, 0.0, 5.0])
    made.forget(np.array([2]))
    assert shares(made)[:3] == pytest.approx([0.5, 0.5, 0.0], abs=0.003)


def test_each_equal_part_of_all_priorities_gives_one_slot() -> None:
    made = priorities(1.0, [1.0] * 8)
    for seed in range(20):
        assert made.draw(8, np.random.default_rng(seed)).tolist() == list(range(8))


def test_nothing_to_draw_from_is_an_error() -> None:
    with pytest.raises(ValueError, match="empty"):
        Priorities(8, 0.5).draw(1, np.random.default_rng(0))


def test_importance_weights_undo_what_priorities_do_relative_to_the_batch() -> None:
    made = priorities(1.0, [1.0, 3.0])
    # Of 2 slots with chances 1/4 and 3/4: 1/(2 * 1/4) = 2 and 2/3; over the largest: 1 and 1/3.
    full = made.importance_weights(np.array([0, 1]), correction=1.0)
    half = made.importance_weights(np.array([0, 1]), correction=0.5)
    assert full.tolist() == pytest.approx([1.0, 1 / 3], rel=1e-4)
    assert half.tolist() == pytest.approx([1.0, (1 / 3) ** 0.5], rel=1e-4)
    # The largest of the batch, not of all.
    assert made.importance_weights(np.array([1, 1]), 1.0).tolist() == [1.0, 1.0]


def test_restored_priorities_draw_as_the_saved_ones() -> None:
    saved = priorities(0.6, [1.0, 7.0, 0.3])
    restored = Priorities(8, 0.6)
    restored.load_tensors({name: each.clone() for name, each in saved.tensors().items()})
    draws = []
    for made in (saved, restored):
        made.admit(np.array([3]))
        draws.append(made.draw(40, np.random.default_rng(1)).tolist())
    assert draws[0] == draws[1]


@pytest.mark.parametrize("exponent", [0.0, 0.6, 1.0])
def test_errors_of_any_size_keep_every_slot_drawable(exponent: float) -> None:
    made = priorities(exponent, [0.0, 1e30, 1e30])
    made.admit(np.array([3]))
    drawn = made.draw(64, np.random.default_rng(0))
    assert set(drawn.tolist()) <= {0, 1, 2, 3}
    # What is largest is drawn as often as what is new and taken to be as large.
    assert shares(made)[1:4] == pytest.approx([shares(made)[1]] * 3, abs=0.003)
