import numpy as np
import pytest
import torch

from retraining.dynamics import Dynamics, DynamicsConfig
from retraining.rollouts import Played, exploring, greedy, mean_and_error, play
from tests.retraining.walks import walk_log, walker

CONFIG = DynamicsConfig(
    members=2, updates=600, batch_size=64, hidden_size=32, learning_rate=0.01, margin_share=0.1
)


@pytest.fixture(scope="module")
def dynamics() -> Dynamics:
    return Dynamics(walk_log(150, 1.0, np.random.default_rng(0)), CONFIG, seed=1)


def played(dynamics: Dynamics, first_cell: float, ones_below: float, horizon: int = 20) -> Played:
    firsts = torch.tensor([[first_cell, 1.0]] * 2)
    return play(dynamics, greedy(walker(ones_below)), firsts, horizon, value_beyond=-7.0)


@pytest.mark.parametrize("ones_below", [0.0, 2.0, 5.0, 6.0])
def test_a_policy_that_never_acted_returns_what_it_would(
    dynamics: Dynamics, ones_below: float
) -> None:
    found = played(dynamics, 0.0, ones_below)
    np.testing.assert_allclose(found.returns, np.full((2, 2), ones_below), atol=0.25)
    assert not found.has_left.any()


def test_the_horizon_ends_an_episode(dynamics: Dynamics) -> None:
    np.testing.assert_allclose(played(dynamics, 0.0, 6.0, horizon=4).returns, 4.0, atol=0.2)


def test_what_leaves_the_log_ends_there_with_what_is_said_to_remain() -> None:
    # Nothing ends in this log; after the step into cell 6 the next one leaves it.
    log = walk_log(150, 1.0, np.random.default_rng(0), terminated=np.zeros(900, np.bool_))
    found = played(Dynamics(log, CONFIG, seed=1), 0.0, 0.0)
    assert found.has_left.all()
    np.testing.assert_allclose(found.returns, -7.0, atol=0.3)


def test_exploring_replaces_some_actions_by_any_episode_by_episode() -> None:
    generator = torch.Generator().manual_seed(0)
    act = exploring(greedy(walker(6.0)), torch.tensor([0.0, 0.5, 1.0]), 2, generator)
    acted = act(torch.ones(4_000, 3, 2))
    # The policy does 1; half of what is drawn is 0.
    zeros = (acted == 0).double().mean(dim=0)
    np.testing.assert_allclose(zeros.numpy(), [0.0, 0.25, 0.5], atol=0.03)


def test_members_err_together_and_first_observations_are_averaged() -> None:
    even = np.ones(100)
    by_member = np.tile(np.array([[1.0], [2.0], [3.0]]), (1, 100))
    assert mean_and_error(by_member, even) == pytest.approx((2.0, 1.0))
    by_start = np.tile(np.tile([0.0, 4.0], 50), (3, 1))
    assert mean_and_error(by_start, even) == pytest.approx((2.0, 0.2))
    # An episode that stands for all others is all there is.
    one = np.array([1.0, 0.0])
    assert mean_and_error(np.array([[5.0, 9.0], [5.0, 9.0]]), one) == pytest.approx((5.0, 0.0))
