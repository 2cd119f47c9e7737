import numpy as np
import pytest

from retraining.importance import (
    Episodes,
    discounted_returns,
    is_usable,
    pad_episodes,
    second_opinion,
    whole_episodes,
)
from tests.retraining.walks import STEPS, walk_log


def test_weighted_estimates_of_two_episodes_are_those_done_by_hand() -> None:
    episodes = Episodes(
        rewards=np.array([[1.0, 2.0], [3.0, 8.0]]),
        ratios=np.array([[2.0, 2.0], [1.0, 0.5]]),
        logged_values=np.array([[0.5, 1.0], [2.0, 4.0]]),
        policy_values=np.array([[5.0, 1.0], [7.0, 3.0]]),
    )
    found = second_opinion(episodes, discount=0.5)
    # Weights are 2/3, 1/3 after the first step and 4 / 4.5, 0.5 / 4.5 after the second.
    first, second = np.array([2, 1]) / 3, np.array([8, 1]) / 9
    assert found.weighted == pytest.approx(first @ [1, 3] + 0.5 * second @ [2, 8])
    expected = first @ [0.5, 1] + 6.0 + 0.5 * (second @ [1, 4] + first @ [1, 3])
    assert found.doubly_robust == pytest.approx(expected)
    assert found.effective_episodes == pytest.approx(4.5**2 / (16 + 0.25))


def test_an_episode_that_ended_keeps_its_weight() -> None:
    log = walk_log(3, 0.0, np.random.default_rng(0))
    short = log.take(np.arange(STEPS * 2 + 1))._replace(
        terminated=np.r_[log.terminated[: STEPS * 2], True]
    )
    rows = whole_episodes(short)
    values = np.zeros(len(short.actions))
    padded = pad_episodes(short, rows, short.actions, values, values)
    assert padded.ratios[2].tolist() == [1.0] * STEPS
    assert padded.rewards[2].tolist() == [1.0, 0, 0, 0, 0, 0]


def test_whole_episodes_begin_at_step_0_have_no_gap_and_end() -> None:
    log = walk_log(4, 0.0, np.random.default_rng(0))
    torn = np.ones(STEPS * 4, np.bool_)
    torn[[0, STEPS + 2, 3 * STEPS - 1]] = False
    assert whole_episodes(log.take(log.steps > STEPS)) == []
    assert [each.tolist() for each in whole_episodes(log.take(torn))] == [[15, 16, 17, 18, 19, 20]]


def test_returns_are_discounted_from_the_first_step() -> None:
    log = walk_log(1, 0.0, np.random.default_rng(0))
    assert discounted_returns(log, whole_episodes(log), 0.5).tolist() == [1.75]


@pytest.mark.parametrize(
    ("disagreement", "epsilon", "horizon", "num_episodes", "usable"),
    [
        # The cases of four actions, epsilon 0.05 and 20 steps: 37 and 175,000 episodes for one.
        (0.002, 0.05, 20, 3_700, True),
        (0.002, 0.05, 20, 1_000, False),
        (0.01, 0.05, 20, 2_000_000, False),
        (0.0, 0.0, 500, 100, True),
        (0.0, 0.0, 500, 99, False),
        (0.01, 0.0, 5, 10**9, False),
    ],
)
def test_weights_are_used_only_where_a_hundred_episodes_remain(
    disagreement: float, epsilon: float, horizon: int, num_episodes: int, usable: bool
) -> None:
    assert is_usable(disagreement, epsilon, 4, horizon, num_episodes) is usable
