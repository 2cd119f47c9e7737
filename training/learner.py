"""The learner: owns both networks and the optimiser, and turns batches into updates."""

import copy
import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.compiled import (
    CompilationError,
    UpdatePlan,
    WholeUpdate,
    compile_update,
    has_compiler,
)
from training.config import TrainingConfig
from training.elasticity import Elasticity
from training.network import NetworkConfig, QNetwork, initialise
from training.noisy import draw_noise
from training.objective import RowLosses, Rule, row_losses
from training.optimisers import make_optimiser, plain_step, scale_within
from training.replay import Batch

UPDATES_WORTH_COMPILING = 50_000
"""A compiler's twenty seconds are won back after about half as many."""


class UpdateFigures(NamedTuple):
    """What an update was like, as tensors: reading them waits for the device, so read few."""

    loss: Tensor
    """Mean over the batch, weighted, before the step."""

    q_values: Tensor
    """Of the actions taken, before the step, [N]."""

    errors: Tensor
    """How wrong each prediction was, before the step, [N]."""


class Learner:
    """Learns Q-values from batches of transitions.

    All parameters of a network are views of one vector. An optimiser step, a norm and a target
    update are then a few calls instead of a few for each layer, which is where the time of small
    networks goes. Where it pays, the whole update is one compiled function.
    """

    def __init__(
        self, network_config: NetworkConfig, config: TrainingConfig, generator: torch.Generator
    ) -> None:
        self._config = config
        self._generator = generator
        self._is_noisy = network_config.noise_scale is not None
        self._rule = Rule(config.double, config.discount, config.loss)
        self.online_network = QNetwork(network_config)
        initialise(self.online_network, generator)
        self.online_network.to(config.device)
        self.target_network = copy.deepcopy(self.online_network)
        # What observations look like is not learned by gradients: one fit serves both networks.
        self.target_network.normalisation = self.online_network.normalisation
        self.target_network.requires_grad_(False)

        self._online_parameters = flatten_parameters(self.online_network)
        self._target_parameters = flatten_parameters(self.target_network)
        self._gradient = gather_gradients(self.online_network, self._online_parameters)
        self._optimiser = make_optimiser(self._online_parameters, config)
        self._learning_rate = torch.tensor(config.learning_rate, device=config.device)
        self._elasticity: Elasticity | None = None
        self._whole_update = self._compile() if is_worth_compiling(config) else None
        self.num_updates = 0
        self.draw_noise()

    @property
    def is_compiled(self) -> bool:
        """Whether updates are one compiled function."""
        return self._whole_update is not None

    def begin_from(self, network: QNetwork, elasticity: Elasticity | None) -> None:
        """Take up the weights and the normalisation of an earlier network, before any update.

        Args:
            network: Of the same configuration.
            elasticity: What holds the parameters there, if anything does.
        """
        self.online_network.load_state_dict(network.state_dict())
        self.sync_target()
        self._elasticity = elasticity
        if self.is_compiled:
            self._whole_update = self._compile()

    def update(self, batch: Batch) -> UpdateFigures:
        """Take one gradient step; a soft target follows at once."""
        if self._config.device != "cpu":
            batch = Batch(*(column.to(self._config.device) for column in batch))
        if self.online_network.convolutions is not None:
            batch = _channels_last(batch)
        self.draw_noise()
        loss, rows = self._step(batch)
        self.num_updates += 1
        return UpdateFigures(loss, rows.q_values, rows.errors)

    def draw_noise(self) -> None:
        """Give noisy layers of both networks new noise; each update draws as well."""
        if self._is_noisy:
            draw_noise(self.online_network, self._generator)
            draw_noise(self.target_network, self._generator)

    def sync_target(self) -> None:
        """Copy the online network into the target network."""
        self._target_parameters.copy_(self._online_parameters.detach())

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set the optimiser's step size for the updates to come."""
        self._learning_rate.fill_(learning_rate)
        self._optimiser.param_groups[0]["lr"] = learning_rate

    def tensors(self) -> dict[str, Tensor]:
        """Parameters, the optimiser's moments and the noise to come, for `load_tensors`."""
        moments = self._optimiser.state[self._online_parameters]
        return {
            "online": self._online_parameters,
            "target": self._target_parameters,
            "num_updates": torch.tensor(self.num_updates),
            "generator": self._generator.get_state(),
            **{f"optimiser.{name}": value for name, value in moments.items()},
        }

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take up what `tensors` gave; normalisation belongs to the caller."""
        with torch.no_grad():
            self._online_parameters.copy_(tensors["online"])
            self._target_parameters.copy_(tensors["target"])
        self.num_updates = int(tensors["num_updates"])
        self._generator.set_state(tensors["generator"])
        for name, value in self._optimiser.state[self._online_parameters].items():
            value.copy_(tensors[f"optimiser.{name}"])

    def _step(self, batch: Batch) -> tuple[Tensor, RowLosses]:
        if self._whole_update is None:
            return self._step_in_parts(batch)
        try:
            return self._whole_update(
                self._online_parameters.detach(),
                self._target_parameters.detach(),
                self._optimiser.state[self._online_parameters],
                self._learning_rate,
                batch,
            )
        except CompilationError as error:
            if self._config.compile_updates == "always":
                raise
            warnings.warn(f"{error}; updates are done in parts", RuntimeWarning, stacklevel=3)
            self._whole_update = None
            return self._step_in_parts(batch)

    def _step_in_parts(self, batch: Batch) -> tuple[Tensor, RowLosses]:
        online, target = self.online_network, self.target_network
        rows = row_losses(self._rule, online.head, online.outputs, target.outputs, batch)
        loss = (rows.losses * batch.weights).mean()

        self._gradient.zero_()
        loss.backward()  # type: ignore[no-untyped-call]
        if self._elasticity is not None:
            self._gradient.add_(self._elasticity.pull(self._online_parameters.detach()))
        self._gradient.mul_(scale_within(self._gradient, self._config.gradient_norm_limit))
        self._optimiser.step()

        if self._config.target_update == "soft":
            self._target_parameters.lerp_(
                self._online_parameters.detach(), self._config.target_blend
            )
        return loss.detach(), rows

    def _compile(self) -> WholeUpdate:
        config = self._config
        plan = UpdatePlan(
            gradient_norm_limit=config.gradient_norm_limit,
            optimiser_step=plain_step(config),
            target_blend=config.target_blend if config.target_update == "soft" else 0.0,
            elasticity=self._elasticity,
        )
        return compile_update(self.online_network, self.target_network, self._rule, plan)


def _channels_last(batch: Batch) -> Batch:
    """The same frames with each pixel's depth together: convolutions take a tenth less time."""
    return batch._replace(
        observations=_interleaved(batch.observations),
        next_observations=_interleaved(batch.next_observations),
    )


def _interleaved(stacks: Tensor) -> Tensor:
    # Torch copies plane by plane in half the time of `contiguous` in this layout.
    return torch.stack(stacks.unbind(1), dim=-1).permute(0, 3, 1, 2)


def is_worth_compiling(config: TrainingConfig) -> bool:
    """Whether updates should be compiled: as configured, or where it saves time on this machine."""
    if config.compile_updates != "auto":
        return config.compile_updates == "always"
    is_bound_by_calls = config.convolutions is None
    return is_bound_by_calls and config.num_updates >= UPDATES_WORTH_COMPILING and has_compiler()


def flatten_parameters(network: nn.Module) -> nn.Parameter:
    """Move a network's parameters into one vector, which they are views of from then on."""
    parameters = list(network.parameters())
    vector = torch.cat([parameter.detach().flatten() for parameter in parameters])
    for parameter, view in zip(parameters, _views(vector, parameters), strict=True):
        parameter.data = view
    return nn.Parameter(vector, requires_grad=parameters[0].requires_grad)


def gather_gradients(network: nn.Module, vector: nn.Parameter) -> Tensor:
    """Make backward passes add up the gradients of a flattened network in `vector.grad`."""
    parameters = list(network.parameters())
    gradient = torch.zeros_like(vector)
    for parameter, view in zip(parameters, _views(gradient, parameters), strict=True):
        parameter.grad = view
    vector.grad = gradient
    return gradient


def _views(vector: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    pieces = torch.split(vector, [parameter.numel() for parameter in parameters])
    return [piece.view_as(parameter) for piece, parameter in zip(pieces, parameters, strict=True)]
