"""Several runs of offline learning side by side, each with a conservatism of its own.

All see the same batches. A small network's update is a hundred tiny operations, and calling them
costs more than computing them: with the runs' parameters as rows of one matrix, four runs take
little longer than one.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, distributed
from torch.func import functional_call, vmap

from training.distributed import Place
from training.losses import huber_loss
from training.network import QNetwork
from training.objective import of_actions
from training.offline_log import OfflineBatch
from training.offline_rules import conservative_gap, legal_double_q_targets
from training.regularisation import Parameters, advantage_distances, elastic_penalty

Method = Literal["conservative", "plain", "cloning"]
Outputs = Callable[[Tensor], Tensor]
"""From observations to Q-values, [N, num_actions]."""


class Terms(NamedTuple):
    """What a loss is made of."""

    method: Method
    """`conservative` is errors and gaps, `plain` the first and `cloning` the second."""
    unit: float
    """The spread of returns: errors and gaps are measured by it, so that a weight of conservatism
    means the same for rewards of any size."""
    gradient_norm_limit: float
    """Of each run."""
    target_blend: float
    """Share of the networks that their lagging copies take over at each update."""


class Strengths(NamedTuple):
    """What schedules have come to."""

    learning_rate: float
    anchor: float
    elastic: float


class OfflineLearner:
    """Owns R networks that learn, their lagging copies and the optimiser.

    Args:
        current: Where all of them begin; it stays as it is.
        alphas: Weight of conservatism of each, [R].
        terms: What is learned.
        fisher: How much each parameter mattered to the current policy; none, no consolidation.
        here: Which of torchrun's processes this is: each learns from its rows of every batch.

    Raises:
        ValueError: The policy learns distributions.
    """

    def __init__(
        self,
        current: QNetwork,
        alphas: Sequence[float],
        terms: Terms,
        fisher: Parameters | None,
        here: Place,
    ) -> None:
        if current.head.distribution is not None:
            raise ValueError(
                f"the head learns {current.head.distribution!r}; offline learning is of single "
                "values: train online without a distribution"
            )
        self._terms, self._fisher, self._here = terms, fisher, here
        # In evaluation noisy layers act as their means: a log's regression needs no other noise.
        self._current = copy.deepcopy(current).requires_grad_(False).eval()
        self._anchors = dict(self._current.named_parameters())
        self._alphas = torch.tensor(alphas, dtype=torch.float32)
        beginning = torch.cat([value.flatten() for value in self._anchors.values()])
        self._parameters = beginning.repeat(len(alphas), 1).requires_grad_()
        self._lagging = beginning.repeat(len(alphas), 1)
        self._optimiser = torch.optim.Adam([self._parameters], fused=True)

    def update(
        self, fresh: OfflineBatch, old: OfflineBatch | None, strengths: Strengths
    ) -> tuple[Tensor, Tensor]:
        """One gradient step of each run; losses before it and largest |Q| of the batch, [R]."""
        num_old = 0 if old is None else len(old.actions)
        batch = fresh if old is None else joined(fresh, old)
        is_old = torch.arange(len(batch.actions)) >= len(batch.actions) - num_old
        own = slice(self._here.rank, None, self._here.world_size)
        rows = OfflineBatch(*(column[own] for column in normalised(batch)))
        anchors = (strengths.anchor * is_old[own] / max(num_old, 1)) if num_old else None

        def loss_of(parameters: Tensor, lagging: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
            return self._loss(parameters, lagging, alpha, rows, anchors, strengths.elastic)

        losses, largest = vmap(loss_of)(self._parameters, self._lagging, self._alphas)
        (gradients,) = torch.autograd.grad(losses.sum(), self._parameters)
        losses = losses.detach()
        if self._here.world_size > 1:
            distributed.all_reduce(gradients)
            distributed.all_reduce(losses)
            distributed.all_reduce(largest, distributed.ReduceOp.MAX)
        self._optimiser.param_groups[0]["lr"] = strengths.learning_rate
        self._parameters.grad = _limited_rows(gradients, self._terms.gradient_norm_limit)
        self._optimiser.step()
        self._lagging.lerp_(self._parameters.detach(), self._terms.target_blend)
        return losses, largest

    def network(self, run: int) -> QNetwork:
        """A copy of what a run has learned."""
        learned = copy.deepcopy(self._current)
        values = self._named(self._parameters.detach()[run])
        with torch.no_grad():
            for name, parameter in learned.named_parameters():
                parameter.copy_(values[name])
        return learned

    def _loss(
        self,
        parameters: Tensor,
        lagging: Tensor,
        alpha: Tensor,
        rows: OfflineBatch,
        anchors: Tensor | None,
        elastic_strength: float,
    ) -> tuple[Tensor, Tensor]:
        """This process's part of one run's loss, and the largest |Q|."""
        named = self._named(parameters)
        online, target = self._outputs(named), self._outputs(self._named(lagging))
        q_values = online(rows.observations)
        loss = batch_loss(
            self._terms.method, alpha, self._terms.unit, q_values, rows, online, target
        )
        if anchors is not None:
            reference = self._current(rows.observations)
            unit = self._terms.unit
            loss = loss + (anchors * advantage_distances(q_values / unit, reference / unit)).sum()
        if self._fisher is not None:
            penalty = elastic_penalty(named, self._anchors, self._fisher, elastic_strength)
            loss = loss + penalty / self._here.world_size
        return loss, q_values.detach().abs().amax()

    def _named(self, vector: Tensor) -> dict[str, Tensor]:
        pieces = torch.split(vector, [value.numel() for value in self._anchors.values()])
        return {
            name: piece.view(value.shape)
            for (name, value), piece in zip(self._anchors.items(), pieces, strict=True)
        }

    def _outputs(self, parameters: Parameters) -> Outputs:
        def call(observations: Tensor) -> Tensor:
            q_values: Tensor = functional_call(self._current, dict(parameters), (observations,))
            return q_values

        return call


def batch_loss(
    method: Method,
    alpha: Tensor | float,
    unit: float,
    q_values: Tensor,
    batch: OfflineBatch,
    online: Outputs,
    target: Outputs,
) -> Tensor:
    """What a normalised batch says, a scalar.

    Every step tells what its action led to, whoever chose it. What to stay close to is only the
    policy's own behaviour: a heuristic's steps have no weight in conservatism or cloning.

    Args:
        method: `conservative` is both terms, `plain` the first and `cloning` the second.
        alpha: Weight of conservatism.
        unit: What errors and gaps are measured by.
        q_values: Of the batch's observations, [N, num_actions].
        batch: N transitions, as `normalised` gives them.
        online: Selects next actions; no gradient flows through it here.
        target: Values them.
    """
    probabilities, legal = batch.behaviour_probabilities, batch.legal_actions
    gap = (conservative_gap(q_values / unit, probabilities, legal) * batch.policy_weights).sum()
    if method == "cloning":
        return gap
    with torch.no_grad():
        targets = legal_double_q_targets(
            batch.rewards,
            batch.terminated,
            online(batch.next_observations),
            target(batch.next_observations),
            batch.next_legal_actions,
            batch.discounts,
        )
    predictions = of_actions(q_values.unsqueeze(2), batch.actions).squeeze(1)
    error = (huber_loss(predictions / unit, targets / unit) * batch.weights).sum()
    return error if method == "plain" else error + alpha * gap


def normalised(batch: OfflineBatch) -> OfflineBatch:
    """The same with weights that sum to 1, so that sums over parts of it add up to its means."""
    return batch._replace(
        weights=batch.weights / batch.weights.sum().clamp(min=1e-12),
        policy_weights=batch.policy_weights / batch.policy_weights.sum().clamp(min=1e-12),
    )


def joined(fresh: OfflineBatch, old: OfflineBatch) -> OfflineBatch:
    """One batch of both, the fresh transitions first (rehearsal: Robins, 1995)."""
    return OfflineBatch(*(torch.cat(columns) for columns in zip(fresh, old, strict=True)))


def _limited_rows(gradients: Tensor, limit: float) -> Tensor:
    """Each run's gradient, scaled down if its Euclidean norm is beyond `limit`, [R, size]."""
    norms = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)
    scale: Tensor = (limit / (norms + 1e-6)).clamp(max=1.0)
    return gradients * scale
