import torch

from training.offline_rules import conservative_gap, legal_double_q_targets

ALL_LEGAL = torch.ones(1, 3, dtype=torch.bool)


def test_the_online_network_chooses_among_legal_actions_and_the_target_network_values() -> None:
    targets = legal_double_q_targets(
        rewards=torch.tensor([10.0, 7.0]),
        terminated=torch.tensor([False, True]),
        online_next_q_values=torch.tensor([[9.0, 3.0, 4.0], [1.0, 2.0, 3.0]]),
        target_next_q_values=torch.tensor([[100.0, 50.0, 20.0], [100.0, 100.0, 100.0]]),
        next_legal_actions=torch.tensor([[False, True, True], [True, True, True]]),
        discounts=torch.tensor([0.5, 0.5]),
    )
    # The first action is not legal; of the others the online network prefers the third: 20.
    torch.testing.assert_close(targets, torch.tensor([20.0, 7.0]))


def test_the_gap_is_the_soft_maximum_less_the_behaviours_expectation() -> None:
    q_values = torch.log(torch.tensor([[2.0, 5.0, 1.0]]))
    gap = conservative_gap(q_values, torch.tensor([[0.0, 1.0, 0.0]]), ALL_LEGAL)
    torch.testing.assert_close(gap.exp(), torch.tensor([8.0 / 5.0]))


def test_the_gap_knows_no_action_that_was_not_legal() -> None:
    q_values = torch.log(torch.tensor([[2.0, 5.0, 1.0]]))
    legal = torch.tensor([[True, False, True]])
    gap = conservative_gap(q_values, torch.tensor([[1.0, 0.0, 0.0]]), legal)
    torch.testing.assert_close(gap.exp(), torch.tensor([3.0 / 2.0]))


def test_the_gap_pushes_down_in_proportion_to_the_softmax_and_up_to_the_behaviour() -> None:
    q_values = torch.log(torch.tensor([[2.0, 5.0, 1.0]])).requires_grad_()
    gap = conservative_gap(q_values, torch.tensor([[0.25, 0.75, 0.0]]), ALL_LEGAL)
    (gradient,) = torch.autograd.grad(gap.sum(), q_values)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, -0.125, 0.125]]))
