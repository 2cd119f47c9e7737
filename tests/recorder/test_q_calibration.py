import numpy as np
import numpy.typing as npt
import pytest

from contract.manifest import RewardTransform
from contract.transitions import Ending
from recorder.q_calibration import QCalibration, calibrate, consistency_gaps, promises_and_returns
from recorder.traces import Trace
from tests.recorder.test_hacking import trace

PLAIN = RewardTransform()


def lived(rewards: npt.ArrayLike, chosen_q: npt.ArrayLike, ending: Ending = "terminated") -> Trace:
    paid, promised = np.array(rewards, dtype=float), np.array(chosen_q, dtype=float)
    return trace(rewards=paid, chosen_q=promised, best_q=promised, ending=ending)


def test_a_promise_stands_beside_the_discounted_return_from_its_step() -> None:
    rewards = np.zeros(41)
    rewards[[0, 20, 40]] = (1, 10, 100)
    found = promises_and_returns(lived(rewards, np.arange(41)), rewards, discount=0.9)
    tail = 0.9**20
    assert [promise for promise, _ in found] == [0.0, 20.0, 40.0]
    expected = [1 + tail * 10 + tail**2 * 100, 10 + tail * 100, 100]
    assert [came for _, came in found] == pytest.approx(expected)


def test_a_cut_episode_is_gone_on_with_in_the_last_promise_where_it_weighs_little() -> None:
    rewards = np.ones(61)
    cut = lived(rewards, np.full(61, 7.0), "truncated")
    found = promises_and_returns(cut, rewards, discount=0.9)
    # 0.9^60 and 0.9^40 are below a tenth, 0.9^20 and 1 are not.
    assert [round(came, 6) for _, came in found] == [
        round((1 - 0.9**n) / 0.1 + 0.9**n * 7, 6) for n in (60, 40)
    ]


def test_rewards_are_clipped_and_scaled_as_in_training() -> None:
    watch = QCalibration()
    for _ in range(50):
        watch.add(lived([30.0], [2.0]), 0.99, RewardTransform(clip=10.0, scale=0.1))
    assert watch.calibration is not None
    assert watch.calibration.deciles[0] == (2.0, 1.0)


def test_steps_that_the_model_did_not_answer_promise_nothing() -> None:
    watch = QCalibration()
    for _ in range(60):
        watch.add(lived([1.0], [np.nan]), 0.99, PLAIN)
    assert watch.calibration is None


def test_a_part_of_an_episode_says_nothing_of_what_came() -> None:
    watch = QCalibration()
    for _ in range(60):
        watch.add(trace(is_complete=False), 0.99, PLAIN)
    assert watch.calibration is None


def test_promises_that_come_true_have_slope_one_and_no_bias() -> None:
    promises = np.linspace(10, 20, 200)
    noise = np.random.default_rng(1).normal(0, 0.5, 200)
    found = calibrate(promises, promises + noise)
    assert found.bias == pytest.approx(0, abs=0.05)
    assert found.slope == pytest.approx(1, abs=0.05)
    assert found.error < 0.05


def test_promises_half_as_large_again_are_biased_by_what_they_say_too_much() -> None:
    returns = np.random.default_rng(2).normal(10, 4, 2_000)
    found = calibrate(1.5 * returns, returns)
    # Five too much, and returns have an sd of four.
    assert found.bias == pytest.approx(1.25, abs=0.05)
    assert found.slope == pytest.approx(1 / 1.5, abs=0.01)


def test_promises_that_do_not_tell_states_apart_have_slope_zero() -> None:
    rng = np.random.default_rng(3)
    assert calibrate(rng.normal(10, 2, 5_000), rng.normal(10, 2, 5_000)).slope == pytest.approx(
        0, abs=0.05
    )


def test_returns_that_never_vary_do_not_blow_the_bias_up() -> None:
    assert calibrate(np.full(100, 99.0), np.full(100, 100.0)).bias == pytest.approx(-0.04)


def test_a_promise_agrees_with_rewards_and_the_promise_after_them() -> None:
    # 10 = 1 / (1 - 0.9) of a reward of 1 for ever; 15 promises half as much again.
    rewards = np.ones(41)
    assert consistency_gaps(lived(rewards, np.full(41, 10.0)), rewards, 0.9) == pytest.approx(
        [0, 0]
    )
    too_much = consistency_gaps(lived(rewards, np.full(41, 15.0)), rewards, 0.9)
    assert too_much == pytest.approx([5 * (1 - 0.9**20)] * 2)
