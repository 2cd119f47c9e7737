import numpy as np
import pytest

from training.moments import RunningMoments


def test_moments_of_batches_are_moments_of_the_whole() -> None:
    values = np.random.default_rng(0).normal(50.0, 3.0, size=(1000, 2)) * [1.0, 100.0]
    moments = RunningMoments((2,))
    for start, stop in ((0, 1), (1, 8), (8, 8), (8, 700), (700, 1000)):
        moments.add(values[start:stop])
    assert moments.count == 1000
    np.testing.assert_allclose(moments.mean, values.mean(axis=0))
    np.testing.assert_allclose(moments.sd, values.std(axis=0))
    np.testing.assert_array_equal(moments.minimum, values.min(axis=0))
    np.testing.assert_array_equal(moments.maximum, values.max(axis=0))


def test_a_far_mean_does_not_drown_a_small_spread() -> None:
    moments = RunningMoments()
    for value in (1e9, 1e9 + 1, 1e9 + 2):
        moments.add([value])
    assert float(moments.sd) == pytest.approx((2 / 3) ** 0.5)


def test_restored_moments_go_on_bit_for_bit() -> None:
    values = np.random.default_rng(0).normal(size=30)
    whole = RunningMoments()
    whole.add(values[:10])
    restored = RunningMoments.from_state(whole.state())
    for moments in (whole, restored):
        moments.add(values[10:])
    assert restored.summary() == whole.summary()


def test_nothing_seen_has_no_mean() -> None:
    assert RunningMoments().summary().mean is None
