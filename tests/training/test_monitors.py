from pathlib import Path

import pytest

from training.divergence import DivergenceError
from training.episode_log import EVALUATIONS_FILE, EvaluationRecord
from training.monitors import (
    MonitorLimits,
    check_evaluations,
    has_collapsed,
    has_run_away,
    watched,
)

LIMITS = MonitorLimits(lost_share=0.5, overestimation=1.0, patience=2)


def records(returns: list[float], promised: list[float] | None = None) -> list[EvaluationRecord]:
    return [
        EvaluationRecord(
            steps=step,
            episodes=10,
            mean_return=mean_return,
            mean_length=1.0,
            mean_start_q=start_q,
            mean_start_return=10.0,
        )
        for step, (mean_return, start_q) in enumerate(
            zip(returns, promised or [10.0] * len(returns), strict=True)
        )
    ]


@pytest.mark.parametrize(
    ("returns", "collapsed"),
    [
        ([-300.0, -100.0, -201.0, -202.0], True),
        # One of the two latest has kept half of the gain of 200.
        ([-300.0, -100.0, -250.0, -199.0], False),
        # Without a first of -300, 90 and 80 would look like the loss of half.
        ([100.0, 200.0, 160.0, 151.0], False),
        ([100.0, 200.0, 149.0, 148.0], True),
        # What is best only among the latest has not been lost.
        ([0.0, 1.0, 100.0, 1.0], False),
        ([0.0, 100.0, 10.0], False),
        # It fell by 150 before it had risen by more than 50.
        ([-150.0, -100.0, -300.0, -290.0], False),
        ([-150.0, 50.0, -300.0, -290.0], True),
        ([100.0, 50.0, 20.0, 10.0], False),
    ],
)
def test_a_collapse_is_the_loss_of_half_of_the_gain_twice_in_a_row(
    returns: list[float], collapsed: bool
) -> None:
    assert has_collapsed(returns, LIMITS) is collapsed


@pytest.mark.parametrize(
    ("promised", "realised", "run_away"),
    [
        ([10.0, 25.0, 40.0], [10.0, 10.0, 12.0], True),
        # The gap has to exceed the largest return met, which here is 20.
        ([10.0, 25.0, 40.0], [20.0, 10.0, 12.0], False),
        # Too high, but falling.
        ([10.0, 40.0, 25.0], [10.0, 10.0, 10.0], False),
        # Negative returns: promised 30 where -10 comes.
        ([-10.0, 5.0, 30.0], [-10.0, -10.0, -10.0], True),
        ([40.0], [10.0], False),
        # A fresh network where nothing has been realised.
        ([0.1, 0.5, 0.9], [0.0, 0.0, 0.0], False),
        # Too low is no danger.
        ([10.0, -30.0, -60.0], [10.0, 10.0, 10.0], False),
    ],
)
def test_q_values_run_away_where_they_grow_beyond_all_returns(
    promised: list[float], realised: list[float], run_away: bool
) -> None:
    assert has_run_away(promised, realised, LIMITS) is run_away


def test_a_collapsed_run_is_stopped_with_its_figures() -> None:
    with pytest.raises(DivergenceError, match=r"return was 400 .* no more than 90 over the last 2"):
        check_evaluations(records([20.0, 400.0, 80.0, 90.0]), LIMITS)


def test_a_run_whose_q_values_run_away_is_stopped_with_its_figures() -> None:
    with pytest.raises(DivergenceError, match=r"max Q at the start is 50 .* return is 10"):
        check_evaluations(records([1.0, 2.0, 3.0], [10.0, 25.0, 50.0]), LIMITS)


def test_a_run_that_is_watched_is_stopped_once_its_file_says_so(tmp_path: Path) -> None:
    file = tmp_path / EVALUATIONS_FILE
    ask = watched(lambda: False, tmp_path, LIMITS)
    assert ask() is False
    for record in records([20.0, 400.0, 80.0]):
        with file.open("a") as lines:
            lines.write(record.model_dump_json() + "\n")
        assert ask() is False
    with file.open("a") as lines:
        lines.write(records([90.0])[0].model_dump_json() + "\n")
    with pytest.raises(DivergenceError, match="has forgotten"):
        ask()


def test_what_was_asked_before_is_still_asked(tmp_path: Path) -> None:
    assert watched(lambda: True, tmp_path)() is True


def test_a_run_that_learns_with_setbacks_goes_on() -> None:
    returns = [20.0, 200.0, 90.0, 150.0, 500.0, 60.0, 120.0, 90.0, 490.0]
    check_evaluations(records(returns))
