"""Figures from measured loads."""

from benchmarks.report import Figure
from benchmarks.serving.closed_loop import Measured, figures_of
from benchmarks.serving.load import Load
from benchmarks.serving.workloads import Workload

WORKLOAD = Workload("mlp", 1, 16, p99_ms=4, ratios={"mosec": 3.0})


def measured(contender: str, rate: float, workload: Workload = WORKLOAD) -> Measured:
    return Measured(contender, workload, Load(rate, 0.001, 0.005, 0.0001, 0))


def figure(figures: list[Figure], rival: str) -> Figure:
    (found,) = (each for each in figures if each.rival and each.rival.startswith(rival))
    return found


def test_a_ratio_is_ours_over_the_rival() -> None:
    figures = figures_of([measured("ours", 800), measured("mosec", 200)])
    assert figure(figures, "mosec").ratio == 4.0
    assert figure(figures, "mosec").met is True


def test_a_ratio_below_its_goal_is_not_met() -> None:
    figures = figures_of([measured("ours", 599), measured("mosec", 200)])
    assert figure(figures, "mosec").met is False


def test_a_rival_without_a_goal_is_told_all_the_same() -> None:
    figures = figures_of([measured("ours", 800), measured("ray", 100)])
    assert (figure(figures, "ray").ratio, figure(figures, "ray").met) == (8.0, None)


def test_a_rival_at_another_load_is_no_rival() -> None:
    other = Workload("mlp", 1, 64)
    figures = figures_of([measured("ours", 800), measured("mosec", 200, other)])
    assert all(each.rival is None for each in figures)


def test_our_p99_is_held_against_its_goal() -> None:
    (p99,) = (each for each in figures_of([measured("ours", 800)]) if each.figure.endswith("p99"))
    assert (p99.value, p99.met) == (5.0, False)
