"""The learning rules, each a pure function of tensors, each with its paper.

Nothing here knows of networks or environments, and no gradient can leak through a target. Rules
of whole distributions are in `distributions`.
"""

import torch
from torch import Tensor
from torch.nn import functional

HUBER_DELTA = 1.0
"""Nature DQN clips the error term to [-1, 1], which is the Huber loss with this delta."""


def q_learning_targets(
    rewards: Tensor, terminated: Tensor, target_next_q_values: Tensor, discount: float | Tensor
) -> Tensor:
    """Q-learning targets with a target network (Mnih et al., 2015), shape [N].

    Args:
        rewards: r_t, or the discounted sum of n rewards (Sutton, 1988), [N].
        terminated: Whether the episode truly ended at t+1, [N] of bool. A time limit is
            truncation, not termination: the state it cuts off at still has value.
        target_next_q_values: Q_target(s_{t+1}, .), [N, num_actions].
        discount: Per transition: a number, or [N].
    """
    next_values = target_next_q_values.amax(dim=1)
    return bootstrapped(rewards, terminated, next_values, discount)


def double_q_targets(
    rewards: Tensor,
    terminated: Tensor,
    online_next_q_values: Tensor,
    target_next_q_values: Tensor,
    discount: float | Tensor,
) -> Tensor:
    """Double Q-learning targets (van Hasselt et al., 2015), shape [N].

    The online network selects the next action and the target network values it, which removes
    the upward bias of taking both from one network. Arguments as in `q_learning_targets`.
    """
    next_actions = online_next_q_values.argmax(dim=1, keepdim=True)
    next_values = target_next_q_values.gather(1, next_actions).squeeze(1)
    return bootstrapped(rewards, terminated, next_values, discount)


def bootstrapped(
    rewards: Tensor, terminated: Tensor, next_values: Tensor, discount: float | Tensor
) -> Tensor:
    """Rewards plus the discounted value of what follows; nothing follows a terminal state. [N]."""
    return torch.where(terminated, rewards, rewards + discount * next_values)


def huber_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Quadratic near zero, linear beyond `HUBER_DELTA` (Huber, 1964), one loss per row, [N]."""
    return functional.huber_loss(predictions, targets, reduction="none", delta=HUBER_DELTA)


def squared_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """The squared error, one loss per row, [N]."""
    return functional.mse_loss(predictions, targets, reduction="none")
