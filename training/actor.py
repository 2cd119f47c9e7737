"""Acting: Q-values for observations of environments, and epsilon-greedy choices among them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from training.environments import Environments
from training.network import NORMALISED_LIMIT, DuelingHead, QNetwork
from training.replay import Transitions

_Floats = npt.NDArray[np.float32]
_ArrayFunction = Callable[[_Floats], _Floats]

QValues = _Floats
QFunction = Callable[[npt.NDArray[Any]], QValues]
"""From raw observations, [N, ...], to q_values, [N, num_actions]."""


def choose_actions(
    q_values: QValues, epsilon: float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """The greedy action of each row, or with probability `epsilon` any action, [N]."""
    num_rows, num_actions = q_values.shape
    explores = rng.random(num_rows) < epsilon
    random_actions = rng.integers(num_actions, size=num_rows)
    return np.where(explores, random_actions, q_values.argmax(axis=1))


class Walk(NamedTuple):
    """T steps of N environments."""

    transitions: list[Transitions]
    """One entry per step, [N] each."""

    q_values: QValues
    """Of the observations acted on, [T, N, num_actions]."""


def walk(
    environments: Environments,
    q_values_of: QFunction,
    epsilon: float,
    rng: np.random.Generator,
    num_steps: int,
) -> Walk:
    """Act epsilon-greedily for `num_steps` steps of every environment."""
    transitions, q_values = [], []
    for _ in range(num_steps):
        q_values.append(q_values_of(environments.observations))
        transitions.append(environments.step(choose_actions(q_values[-1], epsilon, rng)))
    return Walk(transitions, np.array(q_values))


def q_function(network: QNetwork) -> QFunction:
    """The network as a function of numpy arrays that follows the network's updates."""
    if next(network.parameters()).device.type == "cpu":
        return _numpy_q_function(network)
    return _torch_q_function(network)


def _torch_q_function(network: QNetwork) -> QFunction:
    device = next(network.parameters()).device

    @torch.no_grad()
    def q_values(observations: npt.NDArray[Any]) -> QValues:
        values: QValues = network(torch.from_numpy(observations).to(device)).cpu().numpy()
        return values

    return q_values


def _numpy_q_function(network: QNetwork) -> QFunction:
    """A small network costs numpy a fifth of torch's time, most of which is calling overhead.

    The arrays share memory with the network's tensors, so they are never out of date.
    """
    normalise = _numpy_normalisation(network)
    layers = [_numpy_linear(layer) for layer in network.layers]
    head = _numpy_head(network.head)

    def q_values(observations: npt.NDArray[Any]) -> QValues:
        features = normalise(observations.astype(np.float32, copy=False))
        features = features.reshape(len(features), -1)
        for layer in layers:
            features = np.maximum(layer(features), 0.0)
        return head(features)

    return q_values


def _numpy_normalisation(network: QNetwork) -> _ArrayFunction:
    if network.normalisation is None:
        return lambda observations: observations
    mean, scale = network.normalisation.mean.numpy(), network.normalisation.scale.numpy()
    return lambda observations: np.minimum(
        np.maximum((observations - mean) * scale, -NORMALISED_LIMIT), NORMALISED_LIMIT
    )


def _numpy_head(head: nn.Module) -> _ArrayFunction:
    if not isinstance(head, DuelingHead):
        return _numpy_linear(head)
    value, advantages = _numpy_linear(head.value), _numpy_linear(head.advantages)

    def dueling(features: _Floats) -> _Floats:
        value_features, advantage_features = np.split(features, 2, axis=1)
        action_advantages = advantages(advantage_features)
        centre = action_advantages.mean(axis=1, keepdims=True)
        q_values: _Floats = value(value_features) + action_advantages - centre
        return q_values

    return dueling


def _numpy_linear(layer: nn.Module) -> _ArrayFunction:
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"no numpy form of {type(layer).__name__}")
    weights, bias = layer.weight.detach().numpy().T, layer.bias.detach().numpy()
    return lambda features: features @ weights + bias
