import math

import pytest

from contract.manifest import RewardTransform
from training.divergence import DivergenceError, check_divergence, q_limit
from training.moments import RunningMoments


def test_the_limit_is_a_multiple_of_the_largest_reward_for_ever() -> None:
    rewards = RunningMoments()
    rewards.add([-6.0, 1.0, 4.0])
    assert q_limit(rewards, RewardTransform(), 0.75, factor=3.0) == 72.0
    assert q_limit(rewards, RewardTransform(clip=5.0, scale=0.5), 0.75, factor=3.0) == 30.0


def test_tiny_rewards_do_not_make_a_fresh_network_look_diverged() -> None:
    rewards = RunningMoments()
    rewards.add([1e-6])
    assert q_limit(rewards, RewardTransform(), 0.75, factor=3.0) == 3.0


def test_q_values_at_the_limit_are_not_yet_diverged() -> None:
    check_divergence(loss=1.0, largest_q=24.0, limit=24.0, num_updates=5)


def test_q_values_beyond_the_limit_stop_the_run_with_their_cause() -> None:
    with pytest.raises(DivergenceError, match=r"\|Q\| is 25 after 5 updates.*limit of 24"):
        check_divergence(loss=1.0, largest_q=25.0, limit=24.0, num_updates=5)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run(loss: float) -> None:
    with pytest.raises(DivergenceError, match=f"the loss is {loss} after 5 updates"):
        check_divergence(loss, largest_q=1.0, limit=24.0, num_updates=5)
