import numpy as np

from benchmarks.canary.__main__ import upper_bound
from benchmarks.canary.rivals import Threshold, peeked_mann_whitney, peeked_t_test
from benchmarks.canary.simulation import Setting, simulate
from benchmarks.canary.thresholds import Sample, tuned
from benchmarks.canary.worlds import WORLDS, swing
from contract.plan import RolloutPlan, Stage

PLAN = RolloutPlan(
    stages=(Stage(share=0.2, hold_seconds=0), Stage(share=0.5, hold_seconds=0)),
    mode="auto",
    return_range=(0.0, 1.0),
)


def outcome(drop: float) -> str:
    setting = Setting(WORLDS["tight"], drop, PLAN, 600)
    return simulate(setting, 1, np.random.default_rng(1)).outcome


def test_a_simulated_canary_is_promoted_where_it_is_as_good_and_rolled_back_where_it_is_not() -> (
    None
):
    assert outcome(0.0) == "promoted"
    assert outcome(0.2) == "rolled_back"


def test_each_kind_of_returns_falls_by_what_it_is_told_to() -> None:
    generator = np.random.default_rng(2)
    for world in WORLDS.values():
        fall = world(generator, 0.0, 50_000).mean() - world(generator, 0.1, 50_000).mean()
        assert abs(fall - 0.1) < 0.02


def test_a_swing_comes_back_after_its_length_and_is_as_high_as_said() -> None:
    found = swing(0.1, 0.0, np.arange(3001, dtype=np.float64))
    assert abs(found.max() - 0.1) < 1e-6
    assert abs(found[0] - found[3000]) < 1e-9


def test_a_threshold_fails_once_one_window_too_many_is_below_it() -> None:
    canary = np.array([[1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0], [1.0] * 8])
    rule = Threshold(window_episodes=2, failure_limit=1, least_mean=0.5)
    assert rule(canary, canary).tolist() == [8, 9]


def test_tuned_thresholds_err_as_seldom_as_is_asked() -> None:
    generator = np.random.default_rng(3)
    equal, worse = (WORLDS["tight"](generator, drop, 60_000).reshape(100, 600) for drop in (0, 0.2))
    (window, failures, distance), (counts,) = tuned([Sample(equal, worse)], 0.05)
    rule = Threshold(window, failures, float(equal.mean()) - distance)
    assert (rule(equal, equal) <= 600).mean() <= 0.06
    assert np.median(counts) <= 40


def test_peeking_tests_find_a_fall_and_leave_an_equal_canary_mostly_alone() -> None:
    generator = np.random.default_rng(4)
    stable = WORLDS["binary"](generator, 0.0, 20 * 200 * 9).reshape(20, 200, 9)
    worse, equal = (
        WORLDS["binary"](generator, drop, 20 * 200).reshape(20, 200) for drop in (0.3, 0.0)
    )
    for test in (peeked_t_test, peeked_mann_whitney):
        assert (test(worse, stable) <= 200).all()
        assert (test(equal, stable) <= 200).mean() <= 0.3


def test_the_bound_on_a_rate_is_clopper_and_pearson_s() -> None:
    assert abs(upper_bound(0, 100) - (1 - 0.05 ** (1 / 100))) < 1e-9
    assert 0.0169 < upper_bound(10, 1000) < 0.0170
