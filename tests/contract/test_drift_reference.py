import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from contract.drift_reference import ColumnReference, bin_edges, find_bins, make_columns

RNG = np.random.default_rng(3)


def lengths(num_episodes: int, steps: int) -> npt.NDArray[np.int64]:
    return np.full(num_episodes, steps)


def test_bins_are_cut_at_the_deciles_and_counted_in_their_shares() -> None:
    column = make_columns(np.arange(100.0)[:, np.newaxis], lengths(20, 5))[0]
    assert column.edges[4] == 49.5
    assert column.shares == pytest.approx([0.1] * 10)
    assert (column.degrees, column.rows) == (9, 100)
    assert column.mean_bin == pytest.approx(4.5)


def test_a_value_on_an_edge_lies_below_it() -> None:
    edges = np.array([[1.0, 2.0, *[np.inf] * 7]])
    values = np.array([[1.0], [1.5], [2.0], [2.5]])
    assert find_bins(values, edges).ravel().tolist() == [0, 1, 1, 2]


def test_a_value_that_most_rows_have_gets_a_bin_of_its_own() -> None:
    # A rectified unit: three rows in four are zero.
    values = np.where(np.arange(2000) % 4 == 0, RNG.uniform(1, 2, 2000), 0.0)
    edges = bin_edges(values)
    padded = np.append(edges, [np.inf] * 9)[np.newaxis, :9]
    seen = find_bins(np.array([[-1e-9], [0.0], [1e-9]]), padded)
    assert seen.ravel().tolist() == [0, 1, 2]
    column = make_columns(values[:, np.newaxis], lengths(20, 100))[0]
    assert column.shares[1] == pytest.approx(0.75, abs=0.01)


def test_a_column_that_never_moved_still_has_somewhere_to_move_to() -> None:
    column = make_columns(np.full((2000, 1), 3.0), lengths(20, 100))[0]
    assert len(column.shares) == 3
    assert column.degrees == 1
    assert column.bin_variance > 0


def test_independent_rows_have_an_effect_of_one_in_every_direction() -> None:
    column = make_columns(RNG.standard_normal((20_000, 1)), lengths(2_000, 10))[0]
    assert column.episode_effects == pytest.approx((9, 9, 9), rel=0.1)


def test_rows_that_repeat_one_another_are_worth_one_an_episode() -> None:
    # Every row of an episode is the same, so 50 rows weigh as one.
    values = np.repeat(RNG.standard_normal(2_000), 50)[:, np.newaxis]
    column = make_columns(values, lengths(2_000, 50))[0]
    assert column.episode_effects[0] == pytest.approx(9 * 50, rel=0.05)
    assert column.episode_bin_variance == pytest.approx(50 * column.bin_variance, rel=0.05)


def test_too_few_episodes_tell_nothing() -> None:
    assert make_columns(RNG.standard_normal((1_900, 2)), lengths(19, 100)) == ()
    assert len(make_columns(RNG.standard_normal((2_000, 2)), lengths(20, 100))) == 2


def test_shares_that_do_not_fit_the_edges_are_refused() -> None:
    column = make_columns(RNG.standard_normal((2_000, 1)), lengths(20, 100))[0]
    with pytest.raises(ValidationError, match="9 edges make no 9 bins"):
        ColumnReference.model_validate({**column.model_dump(), "shares": column.shares[:9]})
