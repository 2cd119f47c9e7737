"""The learner: owns both networks and the optimiser, and turns batches into updates."""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.config import TrainingConfig
from training.losses import double_q_targets, huber_loss, q_learning_targets, squared_loss
from training.network import NetworkConfig, QNetwork, initialise
from training.replay import Batch

RMSPROP_DECAY = 0.95
"""Of both moments, in Mnih et al. (2015)."""


class UpdateFigures(NamedTuple):
    """What an update was like, as tensors: reading them waits for the device, so read few."""

    loss: Tensor
    """Mean over the batch, before the step."""

    q_values: Tensor
    """Of the actions taken, before the step, [N]."""


class Learner:
    """Learns Q-values from batches of transitions.

    All parameters of a network are views of one vector. An optimiser step, a norm and a target
    update are then a few calls instead of a few for each layer, which is where the time of small
    networks goes.
    """

    def __init__(
        self, network_config: NetworkConfig, config: TrainingConfig, generator: torch.Generator
    ) -> None:
        self._config = config
        self._loss = {"huber": huber_loss, "mse": squared_loss}[config.loss]
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
        self._optimiser = _optimiser(self._online_parameters, config)
        self.num_updates = 0

    def update(self, batch: Batch) -> UpdateFigures:
        """Take one gradient step; a soft target follows at once."""
        batch = Batch(*(column.to(self._config.device) for column in batch))
        targets = self._targets(batch)
        q_values = self.online_network(batch.observations)
        taken_q_values = q_values.gather(1, batch.actions.unsqueeze(1)).squeeze(1)
        loss = self._loss(taken_q_values, targets).mean()

        self._gradient.zero_()
        loss.backward()  # type: ignore[no-untyped-call]
        limit_norm(self._gradient, self._config.gradient_norm_limit)
        self._optimiser.step()

        if self._config.target_update == "soft":
            self._target_parameters.lerp_(
                self._online_parameters.detach(), self._config.target_blend
            )
        self.num_updates += 1
        return UpdateFigures(loss.detach(), taken_q_values.detach())

    def sync_target(self) -> None:
        """Copy the online network into the target network."""
        self._target_parameters.copy_(self._online_parameters.detach())

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set the optimiser's step size for the updates to come."""
        self._optimiser.param_groups[0]["lr"] = learning_rate

    def tensors(self) -> dict[str, Tensor]:
        """Both networks' parameters and the optimiser's moments, for `load_tensors`."""
        moments = self._optimiser.state[self._online_parameters]
        return {
            "online": self._online_parameters,
            "target": self._target_parameters,
            "num_updates": torch.tensor(self.num_updates),
            **{f"optimiser.{name}": value for name, value in moments.items()},
        }

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take up what `tensors` gave; normalisation belongs to the caller."""
        with torch.no_grad():
            self._online_parameters.copy_(tensors["online"])
            self._target_parameters.copy_(tensors["target"])
        self.num_updates = int(tensors["num_updates"])
        device = self._config.device
        self._optimiser.state[self._online_parameters] = {
            name.removeprefix("optimiser."): value.to(device)
            for name, value in tensors.items()
            if name.startswith("optimiser.")
        }

    @torch.no_grad()
    def _targets(self, batch: Batch) -> Tensor:
        target_next_q_values = self.target_network(batch.next_observations)
        if not self._config.double:
            return q_learning_targets(
                batch.rewards, batch.terminated, target_next_q_values, self._config.discount
            )
        return double_q_targets(
            batch.rewards,
            batch.terminated,
            self.online_network(batch.next_observations),
            target_next_q_values,
            self._config.discount,
        )


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


def limit_norm(gradient: Tensor, limit: float) -> None:
    """Scale a gradient down, in place, if its Euclidean norm is beyond `limit`."""
    norm = torch.linalg.vector_norm(gradient)
    gradient.mul_((limit / (norm + 1e-6)).clamp(max=1.0))


def _views(vector: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    pieces = torch.split(vector, [parameter.numel() for parameter in parameters])
    return [piece.view_as(parameter) for piece, parameter in zip(pieces, parameters, strict=True)]


def _optimiser(parameters: nn.Parameter, config: TrainingConfig) -> torch.optim.Optimizer:
    if config.optimiser == "adam":
        return torch.optim.Adam(
            [parameters], lr=config.learning_rate, eps=config.optimiser_epsilon, fused=True
        )
    return torch.optim.RMSprop(
        [parameters],
        lr=config.learning_rate,
        alpha=RMSPROP_DECAY,
        eps=config.optimiser_epsilon,
        centered=True,
    )
