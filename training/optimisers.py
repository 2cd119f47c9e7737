"""The optimisers as plain arithmetic on one vector of parameters, for a compiler to see through.

They compute what `torch.optim` does and keep the same state under the same names.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from training.config import TrainingConfig

ADAM_DECAYS = (0.9, 0.999)
"""Of the first and the second moment (Kingma and Ba, 2015)."""

RMSPROP_DECAY = 0.95
"""Of both moments, in Mnih et al. (2015)."""

OptimiserState = dict[str, Tensor]
OptimiserStep = Callable[[Tensor, Tensor, OptimiserState, Tensor], None]
"""From parameters, gradient, state and learning rate; parameters and state change in place."""


def limited(gradient: Tensor, limit: float) -> Tensor:
    """A gradient, scaled down if its Euclidean norm is beyond `limit`."""
    return gradient * scale_within(gradient, limit)


def scale_within(gradient: Tensor, limit: float) -> Tensor:
    """What a gradient is to be multiplied by, 1 where its Euclidean norm is within `limit`."""
    norm = torch.linalg.vector_norm(gradient)
    scale: Tensor = (limit / (norm + 1e-6)).clamp(max=1.0)
    return scale


def adam_step(
    parameters: Tensor,
    gradient: Tensor,
    state: OptimiserState,
    learning_rate: Tensor,
    *,
    epsilon: float,
) -> None:
    """Adam (Kingma and Ba, 2015), as `torch.optim.Adam`."""
    first_decay, second_decay = ADAM_DECAYS
    step = state["step"].add_(1)
    mean = state["exp_avg"].lerp_(gradient, 1 - first_decay)
    square = (
        state["exp_avg_sq"].mul_(second_decay).addcmul_(gradient, gradient, value=1 - second_decay)
    )
    # The corrections are of a mean that began at 0.
    scale = (square / (1 - second_decay**step)).sqrt() + epsilon
    parameters.sub_(learning_rate / (1 - first_decay**step) * mean / scale)


def rmsprop_step(
    parameters: Tensor,
    gradient: Tensor,
    state: OptimiserState,
    learning_rate: Tensor,
    *,
    epsilon: float,
) -> None:
    """The centred RMSprop of Mnih et al. (2015), as `torch.optim.RMSprop`."""
    state["step"].add_(1)
    square = (
        state["square_avg"]
        .mul_(RMSPROP_DECAY)
        .addcmul_(gradient, gradient, value=1 - RMSPROP_DECAY)
    )
    mean = state["grad_avg"].lerp_(gradient, 1 - RMSPROP_DECAY)
    parameters.sub_(learning_rate * gradient / ((square - mean**2).sqrt() + epsilon))


def plain_step(config: TrainingConfig) -> OptimiserStep:
    """The configured optimiser as one function."""
    step = {"adam": adam_step, "rmsprop": rmsprop_step}[config.optimiser]
    return partial(step, epsilon=config.optimiser_epsilon)


def make_optimiser(parameters: torch.nn.Parameter, config: TrainingConfig) -> torch.optim.Optimizer:
    """The configured optimiser of torch, its state there from the start."""
    optimiser: torch.optim.Optimizer
    if config.optimiser == "adam":
        optimiser = torch.optim.Adam(
            [parameters],
            lr=config.learning_rate,
            betas=ADAM_DECAYS,
            eps=config.optimiser_epsilon,
            fused=True,
        )
        moments = ("exp_avg", "exp_avg_sq")
    else:
        optimiser = torch.optim.RMSprop(
            [parameters],
            lr=config.learning_rate,
            alpha=RMSPROP_DECAY,
            eps=config.optimiser_epsilon,
            centered=True,
        )
        moments = ("square_avg", "grad_avg")
    state = {name: torch.zeros_like(parameters, requires_grad=False) for name in moments}
    optimiser.state[parameters] = {"step": torch.zeros((), device=parameters.device), **state}
    return optimiser
