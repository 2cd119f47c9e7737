import pytest

from service.inference.cost import CostModel


def test_a_batch_costs_a_fixed_part_and_a_part_a_row_and_predictions_lean_late() -> None:
    cost = CostModel(seconds_for_1=0.003, seconds_for_64=0.129)
    # 0.001 + 0.002 a row, and 15 % of caution.
    assert cost.seconds(10) == pytest.approx(0.021 * 1.15)


def test_a_machine_that_has_become_slower_is_believed_after_a_while() -> None:
    cost = CostModel(seconds_for_1=0.001, seconds_for_64=0.064)
    for _ in range(60):
        cost.record(rows=10, seconds=0.030)
    assert cost.seconds(10) == pytest.approx(0.030 * 1.15, rel=0.01)


def test_one_slow_batch_alone_changes_little() -> None:
    cost = CostModel(seconds_for_1=0.001, seconds_for_64=0.064)
    cost.record(rows=10, seconds=0.020)
    assert cost.seconds(10) == pytest.approx(0.010 * 1.15 * 1.1, rel=1e-3)


def test_a_model_that_takes_no_time_can_be_predicted() -> None:
    assert CostModel(0.0, 0.0).seconds(64) == pytest.approx(0.0, abs=1e-5)
