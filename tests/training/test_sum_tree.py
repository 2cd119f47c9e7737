import numpy as np
import pytest

from training.sum_tree import SumTree


def tree(weights: list[int]) -> SumTree:
    made = SumTree(len(weights))
    made.set(np.arange(len(weights)), np.array(weights))
    return made


def test_every_position_finds_the_leaf_that_it_lies_in() -> None:
    found = tree([3, 0, 2, 1]).find(np.arange(6))
    assert found.tolist() == [0, 0, 0, 2, 2, 3]


# One level, two levels with a rest, and the three of a million.
@pytest.mark.parametrize("capacity", [7, 40_000, 1_000_000])
def test_a_large_tree_finds_what_a_plain_search_finds(capacity: int) -> None:
    rng = np.random.default_rng(0)
    weights = rng.integers(0, 50, capacity) * (rng.random(capacity) < 0.3)
    weights[-1] = 9
    made = SumTree(capacity)
    for leaves in np.array_split(rng.permutation(capacity), 13):
        made.set(leaves, weights[leaves])
    positions = np.append(rng.integers(made.total, size=2_000), [0, made.total - 1])
    expected = weights.cumsum().searchsorted(positions, side="right")
    assert made.total == weights.sum()
    np.testing.assert_array_equal(made.find(positions), expected)


def test_the_last_of_several_weights_for_one_leaf_counts_once() -> None:
    made = tree([5, 5, 5])
    made.set(np.array([1, 1, 2, 1]), np.array([100, 200, 1, 7]))
    assert made.weights.tolist() == [5, 7, 1]
    assert made.total == 13
    assert made.find(np.arange(13)).tolist() == [0] * 5 + [1] * 7 + [2]


def test_sums_stay_exact_however_often_weights_change() -> None:
    rng = np.random.default_rng(0)
    made = SumTree(5_000)
    for _ in range(300):
        made.set(rng.integers(5_000, size=64), rng.integers(1 << 40, size=64))
    assert made.total == sum(made.weights.tolist())


def test_a_tree_built_again_from_its_weights_is_the_same() -> None:
    rng = np.random.default_rng(0)
    made = tree(rng.integers(100, size=3_000).tolist())
    again = SumTree(3_000)
    again.rebuild(made.weights)
    positions = rng.integers(made.total, size=500)
    assert again.total == made.total
    np.testing.assert_array_equal(again.find(positions), made.find(positions))
