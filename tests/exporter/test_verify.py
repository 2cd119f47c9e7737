from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from exporter.verify import Decide, Masks, ParityError, check_parity
from service.inference.policy import Decided

ROWS = 70
Q_VALUES = np.tile(np.array([[100.0, 40.0, 99.995]], dtype=np.float32), (ROWS, 1))
OBSERVATIONS = np.arange(ROWS, dtype=np.float32)[:, np.newaxis]


def answering(q_values: npt.NDArray[np.float32], actions: npt.ArrayLike | None = None) -> Decide:
    """Looks its answer up by what is observed, which is the row's number."""

    def decide(observations: npt.NDArray[Any], masks: Masks | None) -> Decided:
        rows = observations[:, 0].astype(np.int64)
        legal = q_values[rows] if masks is None else np.where(masks, q_values[rows], -np.inf)
        chosen = legal.argmax(axis=1) if actions is None else np.asarray(actions)[rows]
        return Decided(chosen, q_values[rows])

    return decide


def changed(row: int, action: int, q_value: float) -> npt.NDArray[np.float32]:
    q_values = Q_VALUES.copy()
    q_values[row, action] = q_value
    return q_values


def test_a_q_value_may_differ_by_the_tolerance_of_its_own_size() -> None:
    # 0.009 of 100 is 9e-5.
    parity = check_parity(answering(Q_VALUES), answering(changed(69, 0, 100.009)), OBSERVATIONS)
    assert parity.max_q_difference == pytest.approx(9e-5, rel=0.01)
    assert parity.batches == (1, 7, 64)


@pytest.mark.parametrize("q_value", [40.005, np.nan])
def test_one_wrong_q_value_in_the_last_row_fails(q_value: float) -> None:
    with pytest.raises(ParityError, match="q_values at batch 1"):
        check_parity(answering(Q_VALUES), answering(changed(69, 1, q_value)), OBSERVATIONS)


def test_a_wrong_action_fails_though_its_q_values_are_right() -> None:
    actions = np.zeros(ROWS, dtype=np.int64)
    actions[33] = 1
    with pytest.raises(ParityError, match="1 actions differ"):
        check_parity(answering(Q_VALUES), answering(Q_VALUES, actions), OBSERVATIONS)


def test_a_near_tie_may_fall_either_way_and_is_counted() -> None:
    q_values = Q_VALUES.copy()
    q_values[:60, 2] = 90.0
    actions = np.zeros(ROWS, dtype=np.int64)
    actions[65] = 2
    parity = check_parity(answering(q_values), answering(q_values, actions), OBSERVATIONS)
    assert (parity.near_ties, parity.actions_differing) == (10, 1)


def test_a_frozen_batch_axis_fails() -> None:
    q_values = Q_VALUES + OBSERVATIONS
    right = answering(q_values)

    def frozen(observations: npt.NDArray[Any], masks: Masks | None) -> Decided:
        first = right(observations[:1], masks)
        rows = len(observations)
        return Decided(np.repeat(first.actions, rows), np.repeat(first.q_values, rows, axis=0))

    with pytest.raises(ParityError, match="batch 7"):
        check_parity(right, frozen, OBSERVATIONS)


def test_an_illegal_action_fails_though_it_nearly_ties() -> None:
    masks = np.ones((ROWS, 3), dtype=np.bool_)
    masks[:, 2] = False
    with pytest.raises(ParityError, match="actions differ"):
        check_parity(answering(Q_VALUES), answering(Q_VALUES, [2] * ROWS), OBSERVATIONS, masks)


def test_a_row_with_one_legal_action_is_no_near_tie() -> None:
    masks = np.zeros((ROWS, 3), dtype=np.bool_)
    masks[:, 1] = True
    assert (
        check_parity(answering(Q_VALUES), answering(Q_VALUES), OBSERVATIONS, masks).near_ties == 0
    )


def test_fewer_observations_than_the_largest_batch_prove_nothing() -> None:
    with pytest.raises(ValueError, match="63 observations"):
        check_parity(answering(Q_VALUES), answering(Q_VALUES), OBSERVATIONS[:63])
