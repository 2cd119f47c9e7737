import torch

from training.losses import (
    bootstrapped,
    double_q_targets,
    huber_loss,
    q_learning_targets,
    squared_loss,
)


def test_q_learning_bootstraps_from_the_largest_value_of_the_target_network() -> None:
    targets = q_learning_targets(
        rewards=torch.tensor([1.0, -2.0]),
        terminated=torch.tensor([False, False]),
        target_next_q_values=torch.tensor([[2.0, 10.0, 1.0], [-3.0, -8.0, -5.0]]),
        discount=0.5,
    )
    torch.testing.assert_close(targets, torch.tensor([6.0, -3.5]))


def test_online_network_selects_and_target_network_values() -> None:
    # 99 and 98 are what a swap of the two networks, or a plain maximum, would pick.
    targets = double_q_targets(
        rewards=torch.tensor([1.0]),
        terminated=torch.tensor([False]),
        online_next_q_values=torch.tensor([[2.0, 10.0, 1.0]]),
        target_next_q_values=torch.tensor([[99.0, 4.0, 98.0]]),
        discount=0.5,
    )
    torch.testing.assert_close(targets, torch.tensor([3.0]))


def test_nothing_follows_a_terminal_state() -> None:
    targets = bootstrapped(
        rewards=torch.tensor([1.0, 1.0]),
        terminated=torch.tensor([True, False]),
        next_values=torch.tensor([100.0, 100.0]),
        discount=0.9,
    )
    torch.testing.assert_close(targets, torch.tensor([1.0, 91.0]))


def test_a_value_that_is_not_finite_cannot_pass_through_a_terminal_state() -> None:
    targets = bootstrapped(
        torch.tensor([4.0]), torch.tensor([True]), torch.tensor([torch.nan]), 0.9
    )
    torch.testing.assert_close(targets, torch.tensor([4.0]))


def test_each_transition_may_bring_its_own_discount() -> None:
    targets = q_learning_targets(
        rewards=torch.tensor([1.0, 1.0]),
        terminated=torch.tensor([False, False]),
        target_next_q_values=torch.tensor([[10.0, 0.0], [10.0, 0.0]]),
        discount=torch.tensor([0.5, 0.125]),
    )
    torch.testing.assert_close(targets, torch.tensor([6.0, 2.25]))


def test_huber_is_quadratic_near_zero_and_linear_beyond_one() -> None:
    losses = huber_loss(torch.tensor([0.5, 3.0, -4.0]), torch.tensor([0.0, 0.0, 0.0]))
    torch.testing.assert_close(losses, torch.tensor([0.125, 2.5, 3.5]))


def test_squared_loss_is_not_halved() -> None:
    losses = squared_loss(torch.tensor([3.0, 1.0]), torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(losses, torch.tensor([4.0, 0.0]))
