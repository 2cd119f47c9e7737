import numpy as np
import pytest

from contract.cusum import cusum_limit


@pytest.mark.parametrize(("allowance", "bar", "run"), [(0.5, 8.0, 20_000), (0.25, 12.0, 5_966)])
def test_a_cusum_bar_is_the_one_that_simulation_found(
    allowance: float, bar: float, run: float
) -> None:
    assert cusum_limit(run, allowance) == pytest.approx(bar, abs=0.15)


def test_a_cusum_passes_its_bar_as_rarely_as_said() -> None:
    rng = np.random.default_rng(2)
    bar, walks, passed = cusum_limit(200, 0.5), np.zeros(2_000), 0
    for _ in range(400):
        walks = np.maximum(0, walks + rng.standard_normal(2_000) - 0.5)
        passed += int((walks >= bar).sum())
        walks[walks >= bar] = 0
    assert 2_000 * 400 / passed == pytest.approx(200, rel=0.1)
