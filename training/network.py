"""The Q-network: raw observations in, one value per action out.

Normalisation is part of the network, so a checkpoint and what is exported from it need nothing
beside the observation itself.
"""

from itertools import pairwise

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn

NORMALISED_LIMIT = 10.0
"""Normalised observations are clamped to this, so that one freak value cannot own the output."""


class NetworkConfig(BaseModel):
    """Everything that is needed to build a `QNetwork` again; saved in each checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    observation_shape: tuple[PositiveInt, ...] = Field(min_length=1)
    num_actions: int = Field(ge=2)
    hidden_sizes: tuple[PositiveInt, ...] = Field(min_length=1)
    dueling: bool
    normalise_observations: bool


class Normalisation(nn.Module):
    """Shift and scale each element of an observation by statistics that training has fitted."""

    mean: Tensor
    scale: Tensor

    def __init__(self, observation_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(observation_shape))
        self.register_buffer("scale", torch.ones(observation_shape))

    def forward(self, observations: Tensor) -> Tensor:
        """Normalise observations, [N, ...]."""
        normalised = (observations - self.mean) * self.scale
        return normalised.clamp(-NORMALISED_LIMIT, NORMALISED_LIMIT)


class DuelingHead(nn.Module):
    """Two streams, state value and action advantages (Wang et al., 2016).

    The features come as [value stream | advantage stream], both of `width`.
    """

    def __init__(self, width: int, num_actions: int) -> None:
        super().__init__()
        self.value = nn.Linear(width, 1)
        self.advantages = nn.Linear(width, num_actions)

    def forward(self, features: Tensor) -> Tensor:
        """Q-values, [N, num_actions]."""
        value_features, advantage_features = features.chunk(2, dim=1)
        return dueling_q_values(self.value(value_features), self.advantages(advantage_features))


class QNetwork(nn.Module):
    """A multilayer perceptron, dueling if its configuration says so."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        *trunk_sizes, last_size = config.hidden_sizes
        # A dueling network has two last hidden layers, laid side by side as one matrix.
        self.feature_size = 2 * last_size if config.dueling else last_size
        sizes = [
            torch.Size(config.observation_shape).numel(),
            *trunk_sizes,
            self.feature_size,
        ]

        self.normalisation = (
            Normalisation(config.observation_shape) if config.normalise_observations else None
        )
        self.layers = nn.ModuleList(
            nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes)
        )
        self.head: nn.Module = (
            DuelingHead(last_size, config.num_actions)
            if config.dueling
            else nn.Linear(last_size, config.num_actions)
        )

    def forward(self, observations: Tensor) -> Tensor:
        """Q-values of raw observations, [N, num_actions]."""
        q_values: Tensor = self.head(self.features(observations))
        return q_values

    def features(self, observations: Tensor) -> Tensor:
        """What the head sees: the penultimate layer of raw observations, [N, feature_size]."""
        features = observations.to(torch.float32)
        if self.normalisation is not None:
            features = self.normalisation(features)
        features = features.flatten(1)
        for layer in self.layers:
            features = layer(features).relu()
        return features


def dueling_q_values(values: Tensor, advantages: Tensor) -> Tensor:
    """Q = V + A - mean(A): equation 9 of Wang et al. (2016).

    Args:
        values: State values, [N, 1].
        advantages: Action advantages, [N, num_actions].
    """
    return values + advantages - advantages.mean(dim=1, keepdim=True)


@torch.no_grad()
def initialise(network: QNetwork, generator: torch.Generator) -> None:
    """Draw weights and biases uniformly within 1/sqrt(inputs), from a generator of the caller's."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            module.weight.uniform_(-bound, bound, generator=generator)
            module.bias.uniform_(-bound, bound, generator=generator)
