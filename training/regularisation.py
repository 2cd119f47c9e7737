"""What keeps a policy from forgetting while it learns on: penalties and rehearsal.

Elastic weight consolidation holds parameters that mattered near where they were; rehearsal, the
better choice wherever old data may be kept, goes on learning from it.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from training.replay import Batch

Parameters = Mapping[str, Tensor]
"""A network's parameters by name, as `named_parameters` gives them."""


def fisher_diagonal(network: nn.Module, observations: Tensor) -> dict[str, Tensor]:
    """How much each parameter matters to the greedy action's Q-value (Kirkpatrick et al., 2017).

    The Fisher information of a regression with unit noise: the mean over observations of the
    squared gradient, which is not the square of the mean gradient.

    Args:
        network: From observations to q_values, [N, num_actions].
        observations: What the policy should not forget how to act on, [N, ...].

    Returns:
        One value per parameter, in its shape.
    """
    parameters = {name: value.detach() for name, value in network.named_parameters()}
    buffers = dict(network.named_buffers())

    def greedy_q_value(values: dict[str, Tensor], observation: Tensor) -> Tensor:
        q_values: Tensor = functional_call(network, (values, buffers), observation.unsqueeze(0))
        return q_values.max()

    gradients = vmap(grad(greedy_q_value), in_dims=(None, 0))(parameters, observations)
    return {name: gradient.square().mean(dim=0) for name, gradient in gradients.items()}


def elastic_penalty(
    parameters: Parameters, anchors: Parameters, fisher: Parameters, strength: float
) -> Tensor:
    """Elastic weight consolidation: equation 3 of Kirkpatrick et al. (2017), a scalar.

    strength / 2 * sum_i fisher_i * (parameter_i - anchor_i)**2

    Args:
        parameters: Those that learn.
        anchors: The same, as they were when the old task was learned.
        fisher: How much each mattered then: `fisher_diagonal`.
        strength: Weight of the old task against the new one.
    """
    penalties = [
        (fisher[name] * (parameter - anchors[name]).square()).sum()
        for name, parameter in parameters.items()
    ]
    return 0.5 * strength * torch.stack(penalties).sum()


def advantage_distances(q_values: Tensor, reference_q_values: Tensor) -> Tensor:
    """Mean squared difference of advantages of each state, [N]: 0 where both rank actions alike.

    Advantages are Q-values less their mean over actions (Wang et al., 2016), so that a state's
    value may still be learned anew; holding outputs to a frozen network's is learning without
    forgetting (Li and Hoiem, 2016).

    Args:
        q_values: Of the network that learns, [N, num_actions].
        reference_q_values: Of the policy not to forget, [N, num_actions].
    """
    differences = _advantages(q_values) - _advantages(reference_q_values).detach()
    return differences.square().mean(dim=1)


def rehearsed_size(batch_size: int, share: float) -> int:
    """How many of a batch come from the old replay: `share` of it, rounded to the nearest."""
    return int(batch_size * share + 0.5)


def rehearse(fresh: Batch, old: Batch) -> Batch:
    """One batch of both, the fresh transitions first (rehearsal: Robins, 1995)."""
    return Batch(*(torch.cat(columns) for columns in zip(fresh, old, strict=True)))


def _advantages(q_values: Tensor) -> Tensor:
    return q_values - q_values.mean(dim=1, keepdim=True)
