import pytest

from training import schedules


def test_constant_ignores_end_and_progress() -> None:
    assert schedules.constant(0.3, 0.1, 0.7) == 0.3


@pytest.mark.parametrize(
    ("schedule", "quarter"),
    [
        (schedules.linear, 0.7525),
        (schedules.exponential, 0.01**0.25),
        (schedules.cosine, 0.01 + 0.99 * 0.5 * (1 + 0.5**0.5)),
    ],
)
def test_each_schedule_starts_passes_and_stays_where_it_should(
    schedule: schedules.Schedule, quarter: float
) -> None:
    assert schedule(1.0, 0.01, 0.0) == pytest.approx(1.0)
    assert schedule(1.0, 0.01, 0.25) == pytest.approx(quarter)
    assert schedule(1.0, 0.01, 1.0) == pytest.approx(0.01)
    assert schedule(1.0, 0.01, 3.0) == pytest.approx(0.01)
