import math
from pathlib import Path

import numpy as np
import pytest

from contract.manifest import RewardTransform
from training.curves import (
    calibration_of,
    interquartile_mean,
    learning_curve,
    read_evaluations,
    returns_to_go,
    stratified_bootstrap,
)
from training.episode_log import EVALUATIONS_FILE, EvaluationRecord
from training.evaluate import Episode


def record(steps: int, mean_return: float) -> EvaluationRecord:
    return EvaluationRecord(
        steps=steps,
        episodes=1,
        mean_return=mean_return,
        mean_length=1.0,
        mean_start_q=0.0,
        mean_start_return=0.0,
    )


def episode(rewards: list[float], terminated: bool) -> Episode:
    count = len(rewards)
    return Episode(
        observations=np.zeros((count, 1)),
        q_values=np.arange(2 * count, dtype=np.float32).reshape(count, 2),
        actions=np.arange(count) % 2,
        rewards=np.array(rewards, np.float32),
        terminated=terminated,
        final_q_values=np.array([3.0, 40.0], np.float32),
    )


def test_the_interquartile_mean_leaves_out_a_quarter_on_either_side() -> None:
    assert interquartile_mean([1000.0, 2.0, -1000.0, 4.0]) == 3.0
    # Of five the second and the fourth weigh three quarters each: (0.75 * 2 + 3 + 0.75 * 10) / 2.5.
    assert math.isclose(interquartile_mean([-99.0, 2.0, 3.0, 10.0, 99.0]), 4.8)
    assert interquartile_mean([7.0]) == 7.0


def test_seeds_are_drawn_within_their_task() -> None:
    # Were seeds drawn from all tasks at once, draws of one task alone would widen the interval.
    low, high = stratified_bootstrap([[0.0] * 8, [100.0] * 8], np.random.default_rng(0))
    assert (low, high) == (50.0, 50.0)


def test_a_wider_spread_of_seeds_makes_a_wider_interval_around_the_mean() -> None:
    rng = np.random.default_rng(0)
    narrow = stratified_bootstrap([[9.0, 10.0, 10.0, 11.0]], rng)
    wide = stratified_bootstrap([[0.0, 10.0, 10.0, 20.0]], rng)
    assert wide[0] < narrow[0] <= 10.0 <= narrow[1] < wide[1]


def test_a_seed_that_has_stopped_counts_with_its_last_return() -> None:
    runs = [
        [record(100, 0.0), record(200, 50.0)],
        [record(100, 10.0), record(200, 20.0), record(300, 30.0)],
    ]
    curve = learning_curve(runs, np.random.default_rng(0))
    assert curve.steps.tolist() == [100, 200, 300]
    assert curve.values.tolist() == [5.0, 35.0, 40.0]
    assert curve.low.tolist() == [0.0, 20.0, 30.0]
    assert curve.high.tolist() == [10.0, 50.0, 50.0]


def test_a_curve_begins_where_every_seed_has_been_evaluated() -> None:
    runs = [[record(100, 0.0), record(300, 5.0)], [record(200, 10.0)]]
    assert learning_curve(runs, np.random.default_rng(0)).steps.tolist() == [200, 300]


def test_a_return_from_each_step_on_is_discounted_scaled_and_ends_with_what_is_left() -> None:
    transform = RewardTransform(clip=None, scale=10.0)
    ended = returns_to_go(episode([1.0, 2.0, 4.0], terminated=True), 0.5, transform)
    assert ended.tolist() == [30.0, 40.0, 40.0]
    cut = returns_to_go(episode([1.0, 2.0, 4.0], terminated=False), 0.5, transform)
    assert cut.tolist() == [35.0, 50.0, 60.0]


def test_calibration_pairs_the_taken_actions_values_with_their_returns() -> None:
    calibration = calibration_of([episode([1.0, 2.0], terminated=True)], 0.5, RewardTransform())
    assert calibration.q_values.tolist() == [0.0, 3.0]
    assert calibration.returns.tolist() == [2.0, 2.0]


def test_bias_is_in_units_of_the_returns_spread() -> None:
    calibration = calibration_of(
        [episode([0.0, 6.0, 2.0], terminated=True)], 0.0, RewardTransform()
    )
    # Q is 0, 3, 4; G is 0, 6, 2, whose standard deviation is the root of 56 / 9.
    assert math.isclose(calibration.bias, (-1 / 3) / math.sqrt(56 / 9))


def test_of_two_evaluations_at_one_step_the_longer_one_that_came_last_counts(
    tmp_path: Path,
) -> None:
    records = [record(100, 1.0), record(100, 2.0), record(200, 3.0)]
    lines = [each.model_dump_json() + "\n" for each in records]
    (tmp_path / EVALUATIONS_FILE).write_text("".join(lines))
    assert [each.mean_return for each in read_evaluations(tmp_path)] == [2.0, 3.0]


def test_a_folder_without_a_run_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no evaluations\.jsonl"):
        read_evaluations(tmp_path)
