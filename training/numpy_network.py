"""A small network in numpy, for acting.

It costs a fifth of torch's time, most of which is calling overhead. The arrays share memory with
the network's tensors, so they are never out of date.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from training.distributions import Categorical
from training.heads import DuelingHead, Head
from training.network import NORMALISED_LIMIT, QNetwork
from training.noisy import NoisyLinear

_Floats = npt.NDArray[np.float32]
_ArrayFunction = Callable[[_Floats], _Floats]


def numpy_q_function(network: QNetwork) -> Callable[[npt.NDArray[Any]], _Floats]:
    """From raw observations, [N, ...], to q_values, [N, num_actions]; no convolutions."""
    normalise = _normalisation(network)
    layers = [_linear(layer) for layer in network.layers]
    norms = [_norm(norm) for norm in network.norms]
    head, mean = _head(network.head), _mean(network.head)

    def q_values(observations: npt.NDArray[Any]) -> _Floats:
        features = normalise(observations.astype(np.float32, copy=False))
        features = features.reshape(len(features), -1)
        for layer, norm in zip(layers, norms, strict=True):
            features = np.maximum(norm(layer(features)), 0.0)
        return mean(head(features))

    return q_values


def _normalisation(network: QNetwork) -> _ArrayFunction:
    if network.normalisation is None:
        return _unchanged
    mean, scale = network.normalisation.mean.numpy(), network.normalisation.scale.numpy()
    return lambda observations: np.minimum(
        np.maximum((observations - mean) * scale, -NORMALISED_LIMIT), NORMALISED_LIMIT
    )


def _head(head: Head) -> _ArrayFunction:
    """What the head learns of each action, [N, num_actions * size]."""
    if not isinstance(head, DuelingHead):
        return _linear(head.actions)
    value, advantages = _linear(head.value), _linear(head.advantages)

    def dueling(features: _Floats) -> _Floats:
        value_features, advantage_features = np.split(features, 2, axis=1)
        values = value(value_features)[:, np.newaxis]
        action_advantages = advantages(advantage_features).reshape(
            len(features), head.num_actions, head.size
        )
        centre = action_advantages.mean(axis=1, keepdims=True)
        outputs: _Floats = values + action_advantages - centre
        return outputs.reshape(len(features), -1)

    return dueling


def _mean(head: Head) -> _ArrayFunction:
    """From what the head learns to Q-values, [N, num_actions]."""
    if head.distribution is None:
        return _unchanged
    if not isinstance(head.distribution, Categorical):
        return lambda outputs: _by_action(head, outputs).mean(axis=2)
    support = head.support.numpy()

    def expected(outputs: _Floats) -> _Floats:
        logits = _by_action(head, outputs)
        shares = np.exp(logits - logits.max(axis=2, keepdims=True))
        q_values: _Floats = (shares @ support) / shares.sum(axis=2)
        return q_values

    return expected


def _by_action(head: Head, outputs: _Floats) -> _Floats:
    return outputs.reshape(len(outputs), head.num_actions, head.size)


def _norm(norm: nn.Module) -> _ArrayFunction:
    if isinstance(norm, nn.Identity):
        return _unchanged
    if not isinstance(norm, nn.LayerNorm):
        raise TypeError(f"no numpy form of {type(norm).__name__}")
    weight, bias = norm.weight.detach().numpy(), norm.bias.detach().numpy()

    def normalised(features: _Floats) -> _Floats:
        centred = features - features.mean(axis=1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=1, keepdims=True) + np.float32(norm.eps))
        result: _Floats = centred / spread * weight + bias
        return result

    return normalised


def _linear(layer: nn.Module) -> _ArrayFunction:
    if not isinstance(layer, nn.Linear | NoisyLinear):
        raise TypeError(f"no numpy form of {type(layer).__name__}")
    weight, bias = layer.weight.detach().numpy().T, layer.bias.detach().numpy()

    def linear(features: _Floats) -> _Floats:
        result: _Floats = features @ weight + bias
        return result

    if isinstance(layer, nn.Linear):
        return linear

    weight_scale = layer.weight_scale.detach().numpy().T
    bias_scale = layer.bias_scale.detach().numpy()
    input_noise, output_noise = layer.input_noise.numpy(), layer.output_noise.numpy()

    def noisy(features: _Floats) -> _Floats:
        if not layer.training:
            return linear(features)
        # The noise is an outer product, so no noisy matrix needs to be made.
        noise: _Floats = ((features * input_noise) @ weight_scale + bias_scale) * output_noise
        return linear(features) + noise

    return noisy


def _unchanged(values: _Floats) -> _Floats:
    return values
