import inspect

import pytest

from benchmarks.cost.pairs import upper_bound
from benchmarks.cost.without import PARTS


def test_a_bound_is_wider_than_the_mean_by_student_s_error() -> None:
    # Ten numbers at a distance of 1 from their mean: of a sample, sd is sqrt(10 / 9).
    mean, upper = upper_bound([1.0, 3.0] * 5)
    assert mean == 2.0
    assert upper == pytest.approx(2.0 + 1.833 * 1.0541 / 10**0.5, rel=1e-4)


def test_pairs_that_agree_leave_no_doubt() -> None:
    assert upper_bound([0.01, 0.01, 0.01]) == (0.01, 0.01)


@pytest.mark.parametrize("part", PARTS)
def test_what_is_taken_out_answers_nobody(part: str) -> None:
    # Whoever calls one that returns something would notice that it is gone.
    for owner, method in PARTS[part]:
        assert inspect.signature(getattr(owner, method)).return_annotation in (None, "None")
