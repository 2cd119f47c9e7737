from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.heuristics import (
    AnyHeuristic,
    ConstantHeuristic,
    LinearHeuristic,
    PythonHeuristic,
    RandomHeuristic,
    TableHeuristic,
    TableRow,
    legalise,
    refuse_unlisted,
)
from tests.builders import declaration

HERE = "tests.contract.test_heuristics"


def last_legal_action(
    observations: npt.NDArray[Any], masks: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    return np.asarray(masks.shape[1] - 1 - masks[:, ::-1].argmax(axis=1))


def no_such_action(
    observations: npt.NDArray[Any], masks: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    return np.full(len(observations), 99)


def one_action_too_few(
    observations: npt.NDArray[Any], masks: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    return np.zeros(len(observations) - 1, dtype=np.int64)


KINDS: list[AnyHeuristic] = [
    ConstantHeuristic(action=2),
    RandomHeuristic(),
    LinearHeuristic(weights=((1.0, 0.0), (0.0, 1.0), (2.0, 2.0)), bias=(0.0, 0.1, 0.0)),
    LinearHeuristic(weights=((1e308, 1e308), (-1e308, -1e308), (1e308, -1e308))),
    TableHeuristic(rows=(TableRow(conditions=(({0: 1.0}, 0.0),), action=1),), otherwise=2),
    PythonHeuristic(function=f"{HERE}:last_legal_action"),
    PythonHeuristic(function=f"{HERE}:no_such_action"),
]


def choose(
    heuristic: AnyHeuristic,
    observations: npt.ArrayLike,
    masks: npt.ArrayLike | None = None,
) -> list[int]:
    observed = np.asarray(observations, dtype=np.float64)
    legal = np.ones((len(observed), 3), np.bool_) if masks is None else np.asarray(masks)
    actions, propensities = heuristic.choose(observed, legal, np.random.default_rng(3))
    assert actions.dtype == np.int64
    assert actions.shape == propensities.shape == (len(observed),)
    return [int(action) for action in actions]


@pytest.mark.parametrize("heuristic", KINDS, ids=lambda heuristic: str(heuristic.kind))
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_no_kind_ever_chooses_an_illegal_action(
    heuristic: AnyHeuristic, data: st.DataObject
) -> None:
    rows = data.draw(
        st.lists(
            st.lists(st.booleans(), min_size=3, max_size=3).filter(any), min_size=1, max_size=5
        )
    )
    element = st.floats(width=32, allow_nan=True, allow_infinity=True)
    observations = data.draw(
        st.lists(st.lists(element, min_size=2, max_size=2), min_size=len(rows), max_size=len(rows))
    )
    actions = choose(heuristic, observations, rows)
    assert all(mask[action] for mask, action in zip(rows, actions, strict=True))


def test_constant_gives_its_action_and_where_illegal_the_first_legal_one() -> None:
    masks = [[True, True, True], [False, True, False]]
    assert choose(ConstantHeuristic(action=2), [[0, 0], [0, 0]], masks) == [2, 1]


def test_random_draws_each_legal_action_alike_and_says_so() -> None:
    masks = np.tile([True, False, True], (4000, 1))
    actions, propensities = RandomHeuristic().choose(
        np.zeros((4000, 2)), masks, np.random.default_rng(0)
    )
    assert set(propensities) == {0.5}
    assert np.bincount(actions, minlength=3)[1] == 0
    assert 1800 < np.count_nonzero(actions == 2) < 2200


def test_linear_takes_the_largest_score_with_its_bias() -> None:
    weights = ((1.0, 0.0), (0.0, 1.0), (0.0, 0.0))
    observations = [[5, 1], [1, 5], [1, 1]]
    assert choose(LinearHeuristic(weights=weights), observations) == [0, 1, 0]
    assert choose(LinearHeuristic(weights=weights, bias=(0, 3, 2)), observations) == [0, 1, 1]


def test_linear_sees_a_frame_as_one_row_of_elements() -> None:
    heuristic = LinearHeuristic(weights=((0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0)))
    frames = np.array([[[9, 9], [2, 1]], [[9, 9], [1, 2]]], dtype=np.uint8)
    assert choose(heuristic, frames) == [2, 1]


def test_table_is_read_from_the_top_and_a_row_needs_all_its_conditions() -> None:
    heuristic = TableHeuristic(
        rows=(
            TableRow(conditions=(({0: 1.0, 1: -2.0}, 1.0), ({1: 1.0}, 0.0)), action=2),
            TableRow(conditions=(({0: 1.0}, 1.0),), action=1),
        ),
        otherwise=0,
    )
    assert choose(heuristic, [[4, 1], [4, -1], [3, 1], [1, 9]]) == [2, 1, 1, 0]


def test_python_function_of_the_wrong_length_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"gave shape \(1,\) for 2 observations"):
        choose(PythonHeuristic(function=f"{HERE}:one_action_too_few"), [[0, 0], [0, 0]])


def test_python_function_runs_only_where_the_settings_list_it() -> None:
    heuristic = PythonHeuristic(function="os:system")
    with pytest.raises(ValueError, match=r"os:system is not allowed.*lists \['os:systemd'\]"):
        refuse_unlisted(heuristic, ["os:systemd"])
    refuse_unlisted(heuristic, ["os:system"])
    refuse_unlisted(ConstantHeuristic(), [])


def test_wishes_outside_the_actions_become_the_first_legal_one() -> None:
    masks = np.array([[False, True, True]] * 4)
    assert legalise(np.array([-1, 3, 0, 2]), masks).tolist() == [1, 1, 1, 2]


def test_behaviour_names_the_kind_and_changes_with_what_it_is_told() -> None:
    behaviours = {heuristic.behaviour for heuristic in KINDS}
    assert len(behaviours) == len(KINDS)
    assert ConstantHeuristic(action=2).behaviour == "heuristic/constant@844d4773fb1b"


@pytest.mark.parametrize(
    ("misfit", "message"),
    [
        (lambda: ConstantHeuristic(action=2), "action 2 is not below 2"),
        (lambda: LinearHeuristic(weights=((1,) * 4,)), r"must be \[2, 4\], found 1 rows of \[4\]"),
        (
            lambda: LinearHeuristic(weights=((1,) * 4, (1,) * 3)),
            r"must be \[2, 4\], found 2 rows of \[3, 4\]",
        ),
        (
            lambda: LinearHeuristic(weights=((1,) * 4,) * 2, bias=(1,)),
            r"bias must be \[2\], found \[1\]",
        ),
        (lambda: TableHeuristic(rows=(TableRow(action=3),), otherwise=0), "action 3 is not below"),
        (lambda: TableHeuristic(rows=(), otherwise=2), "action 2 is not below 2"),
        (
            lambda: TableHeuristic(
                rows=(TableRow(conditions=(({4: 1.0}, 0.0),), action=1),), otherwise=0
            ),
            "row 0: no element 4 in an observation of 4",
        ),
        (
            lambda: TableHeuristic(
                rows=(TableRow(conditions=(({-1: 1.0}, 0.0),), action=1),), otherwise=0
            ),
            "row 0: no element -1",
        ),
        (lambda: ConstantHeuristic(action=-1), "greater than or equal to 0"),
        (lambda: LinearHeuristic(weights=((float("nan"),) * 4,) * 2), "finite"),
        (lambda: PythonHeuristic(function="os.system"), "should match pattern"),
    ],
)
def test_heuristic_that_does_not_fit_the_policy_is_refused(
    misfit: Callable[[], AnyHeuristic], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        declaration(heuristic=misfit())
