"""Layers that explore by themselves: noise on weights, whose scale is learned."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class NoisyLinear(nn.Module):
    """A linear layer with factorised Gaussian noise on its weights (Fortunato et al., 2018).

    `weight` and `bias` are means. Noise is drawn by `draw_noise`, not here, and is part of no
    state: in evaluation mode, as any checkpoint is read, the layer is its means.
    """

    input_noise: Tensor
    output_noise: Tensor

    def __init__(self, inputs: int, outputs: int, noise_scale: float) -> None:
        super().__init__()
        self.in_features = inputs
        self.noise_scale = noise_scale
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.weight_scale = nn.Parameter(torch.empty(outputs, inputs))
        self.bias_scale = nn.Parameter(torch.empty(outputs))
        self.register_buffer("input_noise", torch.zeros(inputs), persistent=False)
        self.register_buffer("output_noise", torch.zeros(outputs), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Features, [N, inputs], to [N, outputs]."""
        if not self.training:
            return functional.linear(features, self.weight, self.bias)
        noise = torch.outer(self.output_noise, self.input_noise)
        weight = self.weight + self.weight_scale * noise
        return functional.linear(features, weight, self.bias + self.bias_scale * self.output_noise)


def linear(inputs: int, outputs: int, noise_scale: float | None) -> nn.Linear | NoisyLinear:
    """A linear layer, noisy where there is a scale."""
    if noise_scale is None:
        return nn.Linear(inputs, outputs)
    return NoisyLinear(inputs, outputs, noise_scale)


@torch.no_grad()
def draw_noise(network: nn.Module, generator: torch.Generator) -> None:
    """Give each noisy layer of a network noise of its own, until the next draw.

    The generator is one of the CPU, wherever the network lies, so that a run is the same on both.
    """
    for module in network.modules():
        if isinstance(module, NoisyLinear):
            for noise in (module.input_noise, module.output_noise):
                values = torch.randn(noise.shape, generator=generator)
                noise.copy_(values.sign() * values.abs().sqrt())
