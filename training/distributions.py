"""Learning whole distributions of returns: what the outputs mean, and the losses, all pure."""

from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn import functional

QUANTILE_HUBER_DELTA = 1.0
"""kappa of Dabney et al. (2018)."""


class Categorical(BaseModel):
    """Probabilities of `size` returns at equal distances (C51; Bellemare et al., 2017)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["categorical"] = "categorical"
    size: int = Field(default=51, ge=2)
    minimum: float
    """The lowest return, in the unit of the Q-values."""

    maximum: float

    @model_validator(mode="after")
    def _is_a_range(self) -> "Categorical":
        if self.minimum >= self.maximum:
            raise ValueError(f"minimum is {self.minimum}, expected less than {self.maximum}")
        return self


class Quantiles(BaseModel):
    """`size` equally likely returns (QR-DQN; Dabney et al., 2018)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["quantiles"] = "quantiles"
    size: int = Field(default=51, ge=2)


Distribution = Annotated[Categorical | Quantiles, Field(discriminator="kind")]


def returns_of(distribution: Categorical) -> Tensor:
    """The returns that the probabilities are of, [size]."""
    return torch.linspace(distribution.minimum, distribution.maximum, distribution.size)


def project(returns: Tensor, probabilities: Tensor, support: Tensor) -> Tensor:
    """Distributions over any returns as ones over `support`: algorithm 1 of Bellemare et al.

    Each probability goes to the two nearest returns of the support, to each the more the nearer
    it is; what lies outside goes to the end.

    Args:
        returns: [N, M].
        probabilities: Of these returns, [N, M].
        support: At equal distances, ascending, [size].
    """
    distance = support[1] - support[0]
    inside = returns.clamp(support[0], support[-1])
    shares = 1.0 - (inside.unsqueeze(1) - support.unsqueeze(1)).abs() / distance
    return (shares.clamp(min=0.0) * probabilities.unsqueeze(1)).sum(dim=2)


def categorical_targets(
    rewards: Tensor,
    terminated: Tensor,
    next_probabilities: Tensor,
    support: Tensor,
    discount: float | Tensor,
) -> Tensor:
    """The distribution of rewards and what follows, projected on the support, [N, size].

    Args:
        rewards: [N].
        terminated: [N] of bool; nothing follows where it is true.
        next_probabilities: Of the action chosen there, [N, size].
        support: [size].
        discount: A number, or [N, 1].
    """
    following = torch.where(terminated.unsqueeze(1), 0.0, discount * support)
    return project(rewards.unsqueeze(1) + following, next_probabilities, support)


def categorical_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the prediction from the target, one per row, [N].

    Its gradient is the cross-entropy's (Bellemare et al., 2017); unlike that, it is 0 where
    nothing is left to learn, as a priority should be (Hessel et al., 2018).

    Args:
        logits: Of the action taken, [N, size].
        targets: Probabilities, [N, size].
    """
    log_probabilities = functional.log_softmax(logits, dim=1)
    return (torch.xlogy(targets, targets) - targets * log_probabilities).sum(dim=1)


def quantile_targets(
    rewards: Tensor, terminated: Tensor, next_quantiles: Tensor, discount: float | Tensor
) -> Tensor:
    """Equally likely returns from here, [N, size] (Dabney et al., 2018).

    Args:
        rewards: [N].
        terminated: [N] of bool.
        next_quantiles: Of the action chosen there, [N, size].
        discount: A number, or [N, 1].
    """
    following = torch.where(terminated.unsqueeze(1), 0.0, discount * next_quantiles)
    return rewards.unsqueeze(1) + following


def quantile_loss(quantiles: Tensor, targets: Tensor) -> Tensor:
    """The quantile Huber loss, one per row, [N]: equation 10 of Dabney et al. (2018).

    Args:
        quantiles: Predictions at the midpoints (i + 1/2) / size, [N, size].
        targets: Samples of the target distribution, [N, M].
    """
    size = quantiles.shape[1]
    midpoints = (torch.arange(size, device=quantiles.device) + 0.5) / size
    errors = targets.unsqueeze(1) - quantiles.unsqueeze(2)
    huber = functional.huber_loss(
        errors, torch.zeros_like(errors), reduction="none", delta=QUANTILE_HUBER_DELTA
    )
    weights = (midpoints.unsqueeze(1) - (errors < 0).float()).abs()
    return (weights * huber).mean(dim=2).sum(dim=1)
