import pytest
import torch
from pydantic import ValidationError

from training.distributions import (
    Categorical,
    categorical_loss,
    categorical_targets,
    project,
    quantile_loss,
    quantile_targets,
    returns_of,
)

SUPPORT = torch.tensor([0.0, 2.0, 4.0])


def test_a_return_between_two_goes_mostly_to_the_nearer() -> None:
    found = project(torch.tensor([[1.5]]), torch.tensor([[1.0]]), SUPPORT)
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.75, 0.0]]))


def test_a_return_on_the_support_keeps_its_whole_probability() -> None:
    found = project(torch.tensor([[4.0, 0.0]]), torch.tensor([[0.3, 0.7]]), SUPPORT)
    torch.testing.assert_close(found, torch.tensor([[0.7, 0.0, 0.3]]))


def test_returns_outside_the_support_go_to_its_ends() -> None:
    found = project(torch.tensor([[-90.0, 90.0]]), torch.tensor([[0.1, 0.9]]), SUPPORT)
    torch.testing.assert_close(found, torch.tensor([[0.1, 0.0, 0.9]]))


def test_categorical_targets_shift_by_the_reward_and_shrink_by_the_discount() -> None:
    targets = categorical_targets(
        rewards=torch.tensor([1.0, 1.0]),
        terminated=torch.tensor([False, True]),
        # All on the return 4: 1 + 0.25 * 4 = 2; where terminated only the reward of 1 is left.
        next_probabilities=torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]),
        support=SUPPORT,
        discount=torch.tensor([[0.25], [0.25]]),
    )
    torch.testing.assert_close(targets, torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]]))


def test_categorical_targets_take_each_rows_own_discount() -> None:
    targets = categorical_targets(
        rewards=torch.zeros(2),
        terminated=torch.tensor([False, False]),
        next_probabilities=torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]),
        support=SUPPORT,
        discount=torch.tensor([[1.0], [0.5]]),
    )
    torch.testing.assert_close(targets, torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]))


def test_the_categorical_loss_is_the_divergence_and_nothing_where_nothing_is_left_to_learn() -> (
    None
):
    targets = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]])
    logits = torch.tensor([[0.25, 0.5, 0.25], [0.5, 0.5, 1e-30]]).log()
    # Half of ln 2 for the first return, nothing for the second, which is predicted as it is.
    expected = torch.tensor([0.5 * 0.693147, 0.0])
    torch.testing.assert_close(categorical_loss(logits, targets), expected, atol=1e-6, rtol=1e-5)


def test_quantile_targets_end_where_the_episode_did() -> None:
    targets = quantile_targets(
        rewards=torch.tensor([1.0, 1.0]),
        terminated=torch.tensor([False, True]),
        next_quantiles=torch.tensor([[10.0, 20.0], [10.0, 20.0]]),
        discount=torch.tensor([[0.5], [0.5]]),
    )
    torch.testing.assert_close(targets, torch.tensor([[6.0, 11.0], [1.0, 1.0]]))


def test_low_quantiles_are_pushed_down_by_errors_below_more_than_up_by_errors_above() -> None:
    # Midpoints of two quantiles are 1/4 and 3/4. Errors of +3 and -3 have a Huber loss of 2.5.
    above = quantile_loss(torch.zeros(1, 2), torch.tensor([[3.0]]))
    below = quantile_loss(torch.zeros(1, 2), torch.tensor([[-3.0]]))
    torch.testing.assert_close(above, torch.tensor([0.25 * 2.5 + 0.75 * 2.5]))
    torch.testing.assert_close(below, torch.tensor([0.75 * 2.5 + 0.25 * 2.5]))
    low_only = quantile_loss(torch.tensor([[0.0, 3.0]]), torch.tensor([[3.0]]))
    torch.testing.assert_close(low_only, torch.tensor([0.25 * 2.5]))


def test_the_quantile_loss_averages_over_targets_and_adds_up_over_quantiles() -> None:
    # Predictions 0 and 0 against 1 and 3: Huber losses 0.5 and 2.5, weights 1/4 and 3/4.
    loss = quantile_loss(torch.zeros(1, 2), torch.tensor([[1.0, 3.0]]))
    torch.testing.assert_close(loss, torch.tensor([(0.25 + 0.75) * (0.5 + 2.5) / 2]))


def test_learned_quantiles_are_those_of_the_targets() -> None:
    generator = torch.Generator().manual_seed(0)
    quantiles = torch.zeros(1, 4, requires_grad=True)
    optimiser = torch.optim.Adam([quantiles], lr=0.5)
    targets = 100 * torch.rand(1, 4_000, generator=generator)
    for _ in range(400):
        optimiser.zero_grad()
        quantile_loss(quantiles, targets).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    # Of a uniform variable on [0, 100]: the midpoints 1/8, 3/8, 5/8, 7/8.
    expected = torch.tensor([[12.5, 37.5, 62.5, 87.5]])
    torch.testing.assert_close(quantiles.detach(), expected, atol=3.0, rtol=0.0)


def test_the_support_reaches_from_the_lowest_to_the_highest_return() -> None:
    support = returns_of(Categorical(size=5, minimum=-2.0, maximum=6.0))
    torch.testing.assert_close(support, torch.tensor([-2.0, 0.0, 2.0, 4.0, 6.0]))


def test_a_support_without_width_is_refused() -> None:
    with pytest.raises(ValidationError, match="expected less than"):
        Categorical(minimum=5.0, maximum=5.0)
