"""Acting: Q-values for observations of environments, and epsilon-greedy choices among them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from training.network import QNetwork
from training.numpy_network import numpy_q_function
from training.replay import Transitions
from training.vectorised import EnvironmentGroup

QValues = npt.NDArray[np.float32]
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
    environments: EnvironmentGroup,
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
    is_small = network.convolutions is None
    if is_small and next(network.parameters()).device.type == "cpu":
        return numpy_q_function(network)
    return _torch_q_function(network)


def _torch_q_function(network: QNetwork) -> QFunction:
    device = next(network.parameters()).device

    @torch.no_grad()
    def q_values(observations: npt.NDArray[Any]) -> QValues:
        values: QValues = network(torch.from_numpy(observations).to(device)).cpu().numpy()
        return values

    return q_values
