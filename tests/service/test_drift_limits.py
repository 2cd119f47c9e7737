import math

import numpy as np
import pytest

from service.monitoring.drift_limits import (
    chi2_quantile,
    mixture_quantile,
    normal_quantile,
)


def chi2_tail(value: float, freedom: int) -> float:
    """Exact for an even number of degrees of freedom."""
    half = value / 2
    return math.exp(-half) * sum(half**k / math.factorial(k) for k in range(freedom // 2))


@pytest.mark.parametrize("freedom", [4, 8, 10])
@pytest.mark.parametrize("tail", [1e-2, 1e-4, 1e-6, 1e-8])
def test_a_chi_squared_quantile_is_never_passed_more_often_than_said(
    freedom: int, tail: float
) -> None:
    passed = chi2_tail(chi2_quantile(tail, freedom), freedom)
    assert tail / 8 < passed < tail


def test_a_normal_quantile_has_its_tail_above() -> None:
    assert normal_quantile(0.025) == pytest.approx(1.959964, abs=1e-5)


def test_equal_weights_make_a_chi_squared_of_that_size() -> None:
    # Nine weights of 0.5: 0.5 times chi-squared with nine degrees of freedom.
    assert mixture_quantile(1e-3, (4.5, 2.25, 1.125)) == pytest.approx(0.5 * 27.877, rel=0.01)


def test_one_large_weight_makes_a_longer_tail_than_its_mean_says() -> None:
    weights = np.array([10.0, *[1.0] * 8])
    sums = (weights.sum(), (weights**2).sum(), (weights**3).sum())
    drawn = np.random.default_rng(1).chisquare(1, size=(400_000, 9)) @ weights
    passed = (drawn > mixture_quantile(1e-3, sums)).mean()
    # Two moments alone would be passed four times as often as they say.
    assert 0.0002 < passed < 0.0013
