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
        copies: How often all members stand behind one another; they begin alike.
    """

    def __init__(
        self,
        members: int,
        sizes: Sequence[int],
        activation: Callable[[Tensor], Tensor],
        generator: torch.Generator,
        copies: int = 1,
    ) -> None:
        self._activation = activation
        self.parameters: list[Tensor] = []
        for before, after in pairwise(sizes):
            bound = before**-0.5
            for rows in (before, 1):
                drawn = torch.empty(members, rows, after)
                drawn.uniform_(-bound, bound, generator=generator)
                self.parameters.append(drawn.repeat(copies, 1, 1).requires_grad_())

    @torch.no_grad()
    def begin_at(self, value: float) -> None:
        """Let all outputs be about this before anything is fitted."""
        self.parameters[-1].add_(value)

    def __call__(self, inputs: Tensor, parameters: Sequence[Tensor] | None = None) -> Tensor:
        """Outputs of inputs.

        Args:
            inputs: [copies * members, B, first size], or [1, B, first size] for all alike.
            parameters: Other ones in place of its own, as of an earlier time.

        Returns:
            [copies * members, B, last size].
        """
        weights = self.parameters if parameters is None else parameters
        outputs = inputs.expand(len(weights[0]), -1, -1)
        for place in range(0, len(weights), 2):
            if place:
                outputs = self._activation(outputs)
            outputs = torch.baddbmm(weights[place + 1], outputs, weights[place])
        return outputs
