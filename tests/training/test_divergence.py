import math

import pytest

from contract.manifest import RewardTransform
from training.divergence import DivergenceError, check_divergence, largest_possible_q
from training.moments import RunningMoments


def test_the_largest_possible_q_is_the_largest_reward_for_ever() -> None:
    rewards = RunningMoments()
    rewards.add([-6.0, 1.0, 4.0])
    assert largest_possible_q(rewards, RewardTransform(), 0.75) == 24.0
    assert largest_possible_q(rewards, RewardTransform(clip=5.0, scale=0.5), 0.75) == 10.0


def test_q_values_at_the_limit_are_not_yet_diverged() -> None:
    check_divergence(loss=1.0, largest_q=24.0, q_limit=24.0, num_updates=5)


def test_q_values_beyond_the_limit_stop_the_run_with_their_cause() -> None:
    with pytest.raises(DivergenceError, match=r"\|Q\| is 25 after 5 updates.*limit of 24"):
        check_divergence(loss=1.0, largest_q=25.0, q_limit=24.0, num_updates=5)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run(loss: float) -> None:
    with pytest.raises(DivergenceError, match=f"the loss is {loss} after 5 updates"):
        check_divergence(loss, largest_q=1.0, q_limit=24.0, num_updates=5)
