"""The whole update as one compiled function: targets, loss, gradients, optimiser and blend.

A small network's update is a hundred tiny operations, and calling them costs more than computing
them. Compiled together, with torch's own gradients, they take about a third of the time; the
compiler itself takes some twenty seconds, less once its cache is warm.
"""

import os
import shutil
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value

from training.elasticity import Elasticity
from training.network import QNetwork
from training.objective import RowLosses, Rule, row_losses
from training.optimisers import OptimiserState, OptimiserStep, limited
from training.replay import Batch

_COMPILERS = ("c++", "g++", "clang++")


class CompilationError(Exception):
    """This machine cannot compile the update; nothing was changed."""


class UpdatePlan(NamedTuple):
    """What an update does beside the rule."""

    gradient_norm_limit: float
    optimiser_step: OptimiserStep
    target_blend: float
    """Share of the online network that goes to the target; 0 where it is copied now and then."""

    elasticity: Elasticity | None
    """What holds parameters near those of an earlier policy."""


WholeUpdate = Callable[
    [Tensor, Tensor, OptimiserState, Tensor, Batch],
    tuple[Tensor, RowLosses],
]
"""From both networks' parameters, the optimiser's state, the learning rate and a batch to the loss
and what it is made of; the first three are changed in place."""


def has_compiler() -> bool:
    """Whether this machine has a C++ compiler, which PyTorch asks for code on a CPU."""
    return any(shutil.which(name) for name in (os.environ.get("CXX"), *_COMPILERS) if name)


def compile_update(
    online_network: QNetwork, target_network: QNetwork, rule: Rule, plan: UpdatePlan
) -> WholeUpdate:
    """The update of two networks as one function; it is compiled when it is first called."""
    online_outputs, target_outputs = _Outputs(online_network), _Outputs(target_network)

    def loss_of(
        online_parameters: Tensor, target_parameters: Tensor, batch: Batch
    ) -> tuple[Tensor, RowLosses]:
        online = _bound(online_outputs, online_parameters)
        target = _bound(target_outputs, target_parameters)
        rows = row_losses(rule, online_network.head, online, target, batch)
        return (rows.losses * batch.weights).mean(), rows

    def update(
        online_parameters: Tensor,
        target_parameters: Tensor,
        state: OptimiserState,
        learning_rate: Tensor,
        batch: Batch,
    ) -> tuple[Tensor, RowLosses]:
        gradient, (loss, rows) = grad_and_value(loss_of, has_aux=True)(
            online_parameters, target_parameters, batch
        )
        if plan.elasticity is not None:
            gradient = gradient + plan.elasticity.pull(online_parameters)
        gradient = limited(gradient, plan.gradient_norm_limit)
        plan.optimiser_step(online_parameters, gradient, state, learning_rate)
        if plan.target_blend > 0:
            target_parameters.lerp_(online_parameters, plan.target_blend)
        return loss, rows

    # What is compiled is found again by its code, which another learner's update must not share.
    update.__code__ = update.__code__.replace()
    compiled = torch.compile(
        update,
        fullgraph=True,
        dynamic=False,
        # Looking whether anything has changed takes a quarter of an update, and nothing can: a
        # learner's batches are alike, and what is compiled refuses tensors of another shape.
        options={"guard_filter_fn": torch.compiler.skip_all_guards_unsafe},
    )
    return _without_compiler_noise(compiled)


def _without_compiler_noise(compiled: WholeUpdate) -> WholeUpdate:
    """The same function; what PyTorch's compiler warns of at the first call is about itself."""
    was_called = False

    def call(*arguments: Any) -> tuple[Tensor, RowLosses]:
        nonlocal was_called
        if was_called:
            return compiled(*arguments)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                found = compiled(*arguments)
            except RuntimeError as error:
                reason = str(error).strip().splitlines()[0]
                raise CompilationError(f"the update cannot be compiled: {reason}") from error
        was_called = True
        return found

    return call


class _Outputs(nn.Module):
    """A network of which a call gives the outputs, because `functional_call` calls modules."""

    def __init__(self, network: QNetwork) -> None:
        super().__init__()
        self.network = network
        self.train(network.training)

    def forward(self, observations: Tensor) -> Tensor:
        return self.network.outputs(observations)


def _bound(outputs: _Outputs, vector: Tensor) -> Callable[[Tensor], Tensor]:
    """The network with its parameters taken from one vector."""
    named = dict(outputs.named_parameters())
    pieces = torch.split(vector, [parameter.numel() for parameter in named.values()])
    parameters = {
        name: piece.view(parameter.shape)
        for (name, parameter), piece in zip(named.items(), pieces, strict=True)
    }

    def call(observations: Tensor) -> Tensor:
        found: Tensor = functional_call(outputs, parameters, (observations,))
        return found

    return call
