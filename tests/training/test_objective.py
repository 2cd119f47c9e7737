from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.builders import q_network
from training.distributions import Categorical, Distribution, Quantiles
from training.heads import Head
from training.objective import Rule, row_losses
from training.replay import Batch

ACTIONS = torch.tensor([1, 0])


def batch(**changes: Any) -> Batch:
    """Two transitions; observations tell a stand-in network which row it is asked for."""
    fields: dict[str, Any] = {
        "observations": torch.tensor([0, 1]),
        "actions": ACTIONS,
        "rewards": torch.tensor([1.0, 1.0]),
        "next_observations": torch.tensor([2, 3]),
        "terminated": torch.tensor([False, True]),
        "truncated": torch.tensor([False, False]),
        "steps": torch.tensor([2, 1], dtype=torch.uint8),
        "weights": torch.ones(2),
    }
    return Batch(**(fields | changes))


def head(distribution: Distribution | None) -> Head:
    return Head(width=4, num_actions=2, distribution=distribution, noise_scale=None)


def table(rows: list[list[list[float]]]) -> Any:
    """A network that looks its outputs up, [4 rows, 2 actions, size]."""
    outputs = torch.tensor(rows)
    return lambda observations: outputs[observations]


def values(*rows: tuple[float, float]) -> Any:
    return table([[[first], [second]] for first, second in rows])


ONLINE = values((50.0, 3.0), (7.0, 60.0), (5.0, 2.0), (0.0, 0.0))
TARGET = values((0.0, 0.0), (0.0, 0.0), (8.0, 99.0), (70.0, 80.0))


@pytest.mark.parametrize(
    ("double", "expected"),
    [
        # The online network prefers action 0, which the target network values at 8.
        (True, 1.0 + 0.25 * 8.0),
        (False, 1.0 + 0.25 * 99.0),
    ],
)
def test_values_are_bootstrapped_with_the_discount_of_all_the_steps(
    double: bool, expected: float
) -> None:
    rows = row_losses(Rule(double, 0.5, "mse"), head(None), ONLINE, TARGET, batch())
    assert rows.q_values.tolist() == [3.0, 7.0]
    assert rows.errors.tolist() == pytest.approx([abs(expected - 3.0), 6.0])
    assert rows.losses.tolist() == pytest.approx([(expected - 3.0) ** 2, 36.0])


def test_the_huber_loss_is_linear_in_large_errors_and_priorities_are_not_halved() -> None:
    rows = row_losses(Rule(True, 0.5, "huber"), head(None), ONLINE, TARGET, batch())
    # The second target is the reward alone: 1, predicted as 7.
    assert rows.losses.tolist()[1] == 6.0 - 0.5
    assert rows.errors.tolist()[1] == 6.0


def test_truncation_does_not_end_the_value_of_what_follows() -> None:
    cut = batch(truncated=torch.tensor([True, True]), terminated=torch.tensor([False, False]))
    rows = row_losses(Rule(False, 0.5, "mse"), head(None), ONLINE, TARGET, cut)
    assert rows.errors.tolist() == [1.0 + 0.25 * 99.0 - 3.0, 1.0 + 0.5 * 80.0 - 7.0]


QUANTILE_ONLINE = table(
    [
        [[0.0, 0.0], [2.0, 4.0]],
        [[0.0, 1.0], [0.0, 0.0]],
        # Means 3 and 2: action 0, though action 1 has the largest single quantile.
        [[3.0, 3.0], [-6.0, 10.0]],
        [[0.0, 0.0], [0.0, 0.0]],
    ]
)
QUANTILE_TARGET = table([[[0.0, 0.0]] * 2] * 2 + [[[4.0, 8.0], [40.0, 80.0]], [[9.0, 9.0]] * 2])


def test_quantiles_follow_the_action_with_the_best_mean() -> None:
    rows = row_losses(
        Rule(True, 0.5, "huber"), head(Quantiles(size=2)), QUANTILE_ONLINE, QUANTILE_TARGET, batch()
    )
    # Targets of the first row: 1 + 0.25 * (4, 8) = (2, 3) for predictions of (2, 4).
    # Low quantile, errors 0 and 1: 1/4 * (0 + 0.5) / 2; high, -2 and -1: 1/4 * (1.5 + 0.5) / 2.
    assert rows.losses.tolist()[0] == pytest.approx(0.0625 + 0.25)
    # Of the second row, which terminated: (1, 1) for (0, 1).
    assert rows.losses.tolist()[1] == pytest.approx(0.25 * 0.5)
    assert rows.q_values.tolist() == [3.0, 0.5]
    assert torch.equal(rows.errors, rows.losses)


def test_categories_follow_the_action_with_the_best_mean() -> None:
    support = Categorical(size=3, minimum=0.0, maximum=4.0)
    certain = 50.0

    def on(index: int) -> list[float]:
        return [certain if place == index else 0.0 for place in range(3)]

    online = table([[on(0), on(1)], [on(2), on(0)], [on(2), on(1)], [on(0), on(0)]])
    target = table([[on(0), on(0)]] * 2 + [[on(2), on(0)], [on(2), on(2)]])
    rows = row_losses(Rule(True, 0.5, "huber"), head(support), online, target, batch())
    # 1 + 0.25 * 4 = 2 is what the first row predicts; the second predicts 4 where the reward of 1
    # is all, half on 0 and half on 2: each half is off by e**-50.
    assert rows.losses.tolist()[0] == pytest.approx(0.0, abs=1e-4)
    assert rows.losses.tolist()[1] == pytest.approx(50.0 - 0.6931, abs=1e-2)
    assert rows.q_values.tolist() == pytest.approx([2.0, 4.0])


@pytest.mark.parametrize(
    "distribution", [None, Categorical(minimum=-3.0, maximum=3.0, size=7), Quantiles(size=5)]
)
def test_no_gradient_reaches_the_target(distribution: Distribution | None) -> None:
    online, target = (q_network(seed, distribution=distribution) for seed in (1, 2))
    observations = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    drawn = batch(observations=observations, next_observations=observations + 1.0)
    rows = row_losses(Rule(False, 0.9, "huber"), online.head, online.outputs, target.outputs, drawn)
    rows.losses.sum().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None for parameter in target.parameters())
    gradients: list[Tensor | None] = [parameter.grad for parameter in online.parameters()]
    assert all(gradient is not None and gradient.any() for gradient in gradients)
