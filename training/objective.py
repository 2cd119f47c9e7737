"""What one batch says: the configured learning rule, from batch to one loss per transition.

Pure in both networks' parameters, so that it serves plain torch and a compiler alike.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from training.distributions import (
    Categorical,
    categorical_loss,
    categorical_targets,
    quantile_loss,
    quantile_targets,
)
from training.heads import Head
from training.losses import double_q_targets, huber_loss, q_learning_targets, squared_loss
from training.replay import Batch

Outputs = Callable[[Tensor], Tensor]
"""From observations to outputs, [N, num_actions, size]."""


class Rule(NamedTuple):
    """How targets and losses are made."""

    double: bool
    """The online network selects the next action (van Hasselt et al., 2015)."""

    discount: float
    """Per environment step."""

    loss: Literal["huber", "mse"]
    """Of single values; distributions have losses of their own."""


class RowLosses(NamedTuple):
    """What a batch of N transitions is like."""

    losses: Tensor
    """[N], not yet weighted."""

    errors: Tensor
    """How wrong the prediction was, from 0 up, [N]: what priorities are made of."""

    q_values: Tensor
    """Of the actions taken, [N]."""


def row_losses(rule: Rule, head: Head, online: Outputs, target: Outputs, batch: Batch) -> RowLosses:
    """The rule's losses of a batch.

    Args:
        rule: What to apply.
        head: What the outputs mean.
        online: The learned network; gradients flow through it.
        target: The lagging network; none do.
        batch: N transitions.
    """
    with torch.no_grad():
        discounts = rule.discount**batch.steps
        target_next = target(batch.next_observations)
        online_next = online(batch.next_observations) if rule.double else target_next
    outputs = of_actions(online(batch.observations), batch.actions)
    if head.distribution is None:
        targets = _value_targets(rule, batch, online_next, target_next, discounts)
        q_values = outputs.squeeze(1)
        loss = {"huber": huber_loss, "mse": squared_loss}[rule.loss]
        errors = (targets - q_values).abs().detach()
        return RowLosses(loss(q_values, targets), errors, q_values.detach())

    # As double Q-learning where online_next is the online network's (Hessel et al., 2018).
    next_actions = head.q_values(online_next).argmax(dim=1)
    following = of_actions(target_next, next_actions)
    if isinstance(head.distribution, Categorical):
        targets = categorical_targets(
            batch.rewards,
            batch.terminated,
            following.softmax(dim=1),
            head.support,
            discounts.unsqueeze(1),
        )
        losses = categorical_loss(outputs, targets)
        q_values = outputs.softmax(dim=1) @ head.support
    else:
        targets = quantile_targets(
            batch.rewards, batch.terminated, following, discounts.unsqueeze(1)
        )
        losses = quantile_loss(outputs, targets)
        q_values = outputs.mean(dim=1)
    return RowLosses(losses, losses.detach(), q_values.detach())


def of_actions(outputs: Tensor, actions: Tensor) -> Tensor:
    """Outputs of one action a row, [N, num_actions, size] to [N, size]."""
    index = actions.view(-1, 1, 1).expand(-1, 1, outputs.shape[2])
    return outputs.gather(1, index).squeeze(1)


def _value_targets(
    rule: Rule, batch: Batch, online_next: Tensor, target_next: Tensor, discounts: Tensor
) -> Tensor:
    target_next_q_values = target_next.squeeze(2)
    if not rule.double:
        return q_learning_targets(batch.rewards, batch.terminated, target_next_q_values, discounts)
    return double_q_targets(
        batch.rewards, batch.terminated, online_next.squeeze(2), target_next_q_values, discounts
    )
