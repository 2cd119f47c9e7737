import torch
from torch import nn

from tests.training.builders import q_network
from training.regularisation import (
    advantage_distances,
    elastic_penalty,
    fisher_diagonal,
    rehearse,
    rehearsed_size,
)
from training.replay import Batch


def test_the_penalty_weighs_each_squared_step_by_its_fisher_information() -> None:
    penalty = elastic_penalty(
        {"w": torch.tensor([3.0, 1.0]), "b": torch.tensor([2.0])},
        {"w": torch.tensor([1.0, 4.0]), "b": torch.tensor([2.5])},
        {"w": torch.tensor([10.0, 0.1]), "b": torch.tensor([4.0])},
        strength=6.0,
    )
    # 3 times the sum of 10 * 4, 0.1 * 9 and 4 * 0.25.
    torch.testing.assert_close(penalty, torch.tensor(125.7))


def test_the_penalty_pulls_parameters_back_and_leaves_anchors_alone() -> None:
    weights = torch.tensor([3.0], requires_grad=True)
    penalty = elastic_penalty(
        {"w": weights}, {"w": torch.tensor([1.0])}, {"w": torch.tensor([5.0])}, strength=2.0
    )
    (gradient,) = torch.autograd.grad(penalty, weights)
    assert gradient.item() == 20.0  # 2 * 5 * (3 - 1)


def test_fisher_information_is_the_mean_of_squares_of_the_greedy_actions_gradient() -> None:
    network = nn.Linear(1, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        network.bias.copy_(torch.tensor([0.0, 0.5]))
    # At 3 action 0 is greedy with gradient 3; at -2 action 1 with gradient -2; at 5 action 0.
    fisher = fisher_diagonal(network, torch.tensor([[3.0], [-2.0], [5.0]]))
    torch.testing.assert_close(fisher["weight"], torch.tensor([[34.0 / 3], [4.0 / 3]]))
    torch.testing.assert_close(fisher["bias"], torch.tensor([2.0 / 3, 1.0 / 3]))


def test_fisher_information_of_a_q_network_is_what_one_backward_pass_a_row_gives() -> None:
    network = q_network(dueling=True, normalise_observations=True)
    observations = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    fisher = fisher_diagonal(network, observations)
    expected = {
        name: torch.zeros_like(value.detach()) for name, value in network.named_parameters()
    }
    for observation in observations:
        gradients = torch.autograd.grad(
            network(observation[None]).max(), list(network.parameters())
        )
        for total, gradient in zip(expected.values(), gradients, strict=True):
            total += gradient.square() / len(observations)
    assert fisher.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(fisher[name], value)


def test_advantages_may_shift_with_a_state_but_not_between_actions() -> None:
    reference = torch.tensor([[1.0, 2.0, 6.0]])
    assert (advantage_distances(reference + 40.0, reference) == 0.0).all()
    # Advantages -2, -1, 3 against 1, 2, -3: squares 9, 9, 36.
    moved = torch.tensor([[6.0, 7.0, 2.0]])
    torch.testing.assert_close(advantage_distances(moved, reference), torch.tensor([18.0]))


def test_only_the_learning_network_gets_a_gradient_of_the_distance() -> None:
    learning = torch.tensor([[1.0, 3.0]], requires_grad=True)
    frozen = torch.tensor([[5.0, 1.0]], requires_grad=True)
    distance = advantage_distances(learning, frozen)
    gradient, none = torch.autograd.grad(distance, [learning, frozen], allow_unused=True)
    assert none is None
    # d/dq of mean((-1 - 2)**2, (1 + 2)**2): the mean over actions passes nothing on.
    torch.testing.assert_close(gradient, torch.tensor([[-3.0, 3.0]]))


def numbered(first: int, count: int) -> Batch:
    numbers = torch.arange(first, first + count)
    columns = {name: numbers * (place + 1) for place, name in enumerate(Batch._fields)}
    return Batch(**columns)


def test_a_rehearsed_batch_holds_fresh_and_old_rows_whole() -> None:
    batch = rehearse(numbered(1, 3), numbered(100, 2))
    assert batch.observations.tolist() == [1, 2, 3, 100, 101]
    for place, column in enumerate(batch):
        assert column.tolist() == [(place + 1) * number for number in (1, 2, 3, 100, 101)]


def test_a_quarter_of_a_batch_is_rehearsed_and_halves_round_up() -> None:
    assert [rehearsed_size(64, 0.25), rehearsed_size(10, 0.25), rehearsed_size(7, 0.0)] == [
        16,
        3,
        0,
    ]
