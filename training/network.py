"""The Q-network: raw observations in, one value per action out.

Normalisation, or the scaling of pixels, is part of the network, so a checkpoint and what is
exported from it need nothing beside the observation itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from math import prod

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from training.convolutions import ConvolutionKind, make_convolutions
from training.distributions import Distribution
from training.heads import DuelingHead, Head
from training.noisy import NoisyLinear, linear

NORMALISED_LIMIT = 10.0
"""Normalised observations are clamped to this, so that one freak value cannot own the output."""


class NetworkConfig(BaseModel):
    """Everything that is needed to build a `QNetwork` again; saved in each checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    observation_shape: tuple[PositiveInt, ...] = Field(min_length=1)
    num_actions: int = Field(ge=2)
    convolutions: ConvolutionKind | None = None
    hidden_sizes: tuple[PositiveInt, ...] = Field(min_length=1)
    layer_norm: bool = False
    dueling: bool
    noise_scale: PositiveFloat | None = None
    distribution: Distribution | None = None
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


class QNetwork(nn.Module):
    """Convolutions, if any, then hidden layers, then a head; all as the configuration says."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        *trunk_sizes, last_size = config.hidden_sizes
        # A dueling network has two last hidden layers, laid side by side as one matrix.
        self.feature_size = 2 * last_size if config.dueling else last_size

        self.normalisation = (
            Normalisation(config.observation_shape) if config.normalise_observations else None
        )
        self.convolutions: nn.Module | None = None
        num_inputs = prod(config.observation_shape)
        if config.convolutions is not None:
            self.convolutions, num_inputs = make_convolutions(
                config.convolutions, config.observation_shape, layer_norm=config.layer_norm
            )
        sizes = [num_inputs, *trunk_sizes, self.feature_size]
        self.layers = nn.ModuleList(
            linear(inputs, outputs, config.noise_scale) for inputs, outputs in pairwise(sizes)
        )
        self.norms = nn.ModuleList(
            nn.LayerNorm(size) if config.layer_norm else nn.Identity() for size in sizes[1:]
        )
        head_kind = DuelingHead if config.dueling else Head
        self.head: Head = head_kind(
            last_size, config.num_actions, config.distribution, config.noise_scale
        )

    def forward(self, observations: Tensor) -> Tensor:
        """Q-values of raw observations, [N, num_actions]."""
        q_values: Tensor = self.head(self.features(observations))
        return q_values

    def outputs(self, observations: Tensor) -> Tensor:
        """What is learned of raw observations, [N, num_actions, size]; `Head` says what it is."""
        return self.head.outputs(self.features(observations))

    def features(self, observations: Tensor) -> Tensor:
        """What the head sees: the penultimate layer of raw observations, [N, feature_size]."""
        features = observations.to(torch.float32)
        if self.normalisation is not None:
            features = self.normalisation(features)
        if self.convolutions is not None:
            features = self.convolutions(features)
        features = features.flatten(1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            features = norm(layer(features)).relu()
        return features


@contextmanager
def without_noise(network: QNetwork) -> Iterator[None]:
    """Noisy layers are their means for a while, as they are when served."""
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


@torch.no_grad()
def initialise(network: QNetwork, generator: torch.Generator) -> None:
    """Draw weights and biases uniformly within 1/sqrt(inputs), from a generator of the caller's.

    The scales of noise start alike, at `noise_scale`/sqrt(inputs) (Fortunato et al., 2018).
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | NoisyLinear):
            num_inputs = module.weight[0].numel()
            bound = num_inputs**-0.5
            module.weight.uniform_(-bound, bound, generator=generator)
            assert module.bias is not None
            module.bias.uniform_(-bound, bound, generator=generator)
        if isinstance(module, NoisyLinear):
            module.weight_scale.fill_(module.noise_scale * module.in_features**-0.5)
            module.bias_scale.fill_(module.noise_scale * module.in_features**-0.5)
