"""The rules of learning from a log alone, each a pure function of tensors, each with its paper.

A log shows few actions of few states. What was never tried has no target, and a maximum over
actions finds just those whose values err upward.
"""

import torch
from torch import Tensor

from training.losses import bootstrapped


def legal_double_q_targets(
    rewards: Tensor,
    terminated: Tensor,
    online_next_q_values: Tensor,
    target_next_q_values: Tensor,
    next_legal_actions: Tensor,
    discounts: Tensor,
) -> Tensor:
    """Double Q-learning targets (van Hasselt et al., 2015) among legal actions, [N].

    Args:
        rewards: Discounted sums, [N].
        terminated: Whether the episode truly ended there, [N].
        online_next_q_values: Select the next action, [N, num_actions].
        target_next_q_values: Value it, [N, num_actions]. The online ones again: plain Q-learning.
        next_legal_actions: [N, num_actions].
        discounts: Of the next value, [N].
    """
    next_actions = legal_q_values(online_next_q_values, next_legal_actions).argmax(1, keepdim=True)
    next_values = target_next_q_values.gather(1, next_actions).squeeze(1)
    return bootstrapped(rewards, terminated, next_values, discounts)


def conservative_gap(
    q_values: Tensor, behaviour_probabilities: Tensor, legal_actions: Tensor
) -> Tensor:
    """How far a soft maximum lies above what the behaviour's own actions are worth, [N].

    logsumexp_a Q(s, a) - sum_a behaviour(a | s) Q(s, a): CQL(H), equation 4 of Kumar et al.
    (2020). Where the log says how actions were drawn, the expectation is exact: a random action
    is not held up as one that was chosen. Learned alone this is behaviour cloning (Pomerleau,
    1991): the cross-entropy of softmax(Q) against the behaviour.

    Args:
        q_values: [N, num_actions].
        behaviour_probabilities: Of each action, [N, num_actions].
        legal_actions: [N, num_actions].
    """
    soft_maximum = legal_q_values(q_values, legal_actions).logsumexp(dim=1)
    return soft_maximum - (behaviour_probabilities * q_values).sum(dim=1)


def legal_q_values(q_values: Tensor, legal_actions: Tensor) -> Tensor:
    """Minus infinity where an action is not legal, [N, num_actions]."""
    return q_values.masked_fill(~legal_actions, -torch.inf)
