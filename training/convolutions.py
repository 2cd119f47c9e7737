"""Convolutions from stacked frames, uint8 in, to a flat vector of features.

Pixels are scaled to [0, 1] inside, so that frames stay bytes in the replay, on the wire and in
the exported graph.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

ConvolutionKind = Literal["nature", "impala"]

LARGEST_PIXEL = 255.0
IMPALA_CHANNELS = (16, 32, 32)

_Normalise = Callable[[int], nn.Module]


class NatureConvolutions(nn.Module):
    """The three convolutions of Mnih et al. (2015), [N, depth, 84, 84] to [N, 3136].

    With one hidden layer of 512 and 6 actions, the network of the paper has 1,687,206
    parameters (1.69 M) and takes 18.7 million floating-point operations an observation, a
    multiplication and an addition counted as two.
    """

    def __init__(self, depth: int, normalise: _Normalise) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(depth, 32, kernel_size=8, stride=4), normalise(32), nn.ReLU()),
            *(nn.Conv2d(32, 64, kernel_size=4, stride=2), normalise(64), nn.ReLU()),
            *(nn.Conv2d(64, 64, kernel_size=3, stride=1), normalise(64), nn.ReLU()),
        )

    def forward(self, observations: Tensor) -> Tensor:
        """Frames, [N, depth, H, W], to features, [N, size]."""
        features: Tensor = self.layers(observations.to(torch.float32) / LARGEST_PIXEL)
        return features.flatten(1)


class ResidualBlock(nn.Module):
    """Two convolutions beside a straight way, as in Espeholt et al. (2018)."""

    def __init__(self, channels: int, normalise: _Normalise) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.ReLU(), nn.Conv2d(channels, channels, kernel_size=3, padding=1)),
            *(normalise(channels), nn.ReLU()),
            *(nn.Conv2d(channels, channels, kernel_size=3, padding=1), normalise(channels)),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features of one shape to that shape."""
        changes: Tensor = self.layers(features)
        return features + changes


class ImpalaConvolutions(nn.Module):
    """The deep residual network of IMPALA (Espeholt et al., 2018), [N, depth, 84, 84] to [N, 3872].

    Fifteen convolutions in three stages of 16, 32 and 32 channels, each stage halving height and
    width.
    """

    def __init__(self, depth: int, normalise: _Normalise) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        for channels in IMPALA_CHANNELS:
            stages += [
                nn.Conv2d(depth, channels, kernel_size=3, padding=1),
                nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
                ResidualBlock(channels, normalise),
                ResidualBlock(channels, normalise),
            ]
            depth = channels
        self.layers = nn.Sequential(*stages)

    def forward(self, observations: Tensor) -> Tensor:
        """Frames, [N, depth, H, W], to features, [N, size]."""
        features: Tensor = self.layers(observations.to(torch.float32) / LARGEST_PIXEL)
        return functional.relu(features).flatten(1)


def make_convolutions(
    kind: ConvolutionKind, observation_shape: tuple[int, ...], *, layer_norm: bool
) -> tuple[nn.Module, int]:
    """The convolutions for observations of a shape, and how many features they give.

    Raises:
        ValueError: The observations are not stacked frames, or too small.
    """
    if len(observation_shape) != 3:
        raise ValueError(
            f"observations have shape {list(observation_shape)}, expected [depth, height, width]"
        )
    normalise = _layer_norm if layer_norm else _nothing
    build = {"nature": NatureConvolutions, "impala": ImpalaConvolutions}[kind]
    convolutions = build(observation_shape[0], normalise)
    try:
        with torch.no_grad():
            size = convolutions(torch.zeros(1, *observation_shape)).shape[1]
    except RuntimeError as error:
        raise ValueError(
            f"frames of {observation_shape[1]} x {observation_shape[2]} are too small for the "
            f"{kind} convolutions: {error}"
        ) from error
    return convolutions, size


def _layer_norm(channels: int) -> nn.Module:
    # One group is layer normalisation over channels, height and width, whatever the size.
    return nn.GroupNorm(1, channels)


def _nothing(channels: int) -> nn.Module:
    return nn.Identity()
