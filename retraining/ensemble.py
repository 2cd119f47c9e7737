"""Many small networks of one shape as one of batched matrices."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor


class Ensemble:
    """Fully connected networks, beside each other.

    Args:
        members: How many.
        sizes: Of the input, of each hidden layer and of the output.
        activation: After each hidden layer.
        generator: Draws the first weights.
    """

    def __init__(
        self,
        members: int,
        sizes: Sequence[int],
        activation: Callable[[Tensor], Tensor],
        generator: torch.Generator,
    ) -> None:
        self._activation = activation
        self.parameters: list[Tensor] = []
        for before, after in pairwise(sizes):
            bound = before**-0.5
            for rows in (before, 1):
                drawn = torch.empty(members, rows, after)
                drawn.uniform_(-bound, bound, generator=generator)
                self.parameters.append(drawn.requires_grad_())

    def __call__(self, inputs: Tensor) -> Tensor:
        """Outputs [members, B, last size] of inputs [members, B, first size]."""
        outputs = inputs
        for place in range(0, len(self.parameters), 2):
            if place:
                outputs = self._activation(outputs)
            outputs = torch.baddbmm(self.parameters[place + 1], outputs, self.parameters[place])
        return outputs
