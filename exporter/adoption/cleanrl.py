"""CleanRL's checkpoints of `dqn.py` and `dqn_atari.py`: the state_dict of one `nn.Sequential`.

There is nothing else in them: shape of pictures, discount and library's version must be stated.
"""

import re
from collections.abc import Mapping
from typing import Any

from exporter.adoption.archive import read_tensors
from exporter.adoption.source import (
    AdoptionError,
    Convolution,
    Facts,
    Layer,
    Linear,
    Network,
    Source,
    Tensor,
)

_NAME = re.compile(r"network\.(\d+)\.(weight|bias)")
_STRIDES = (4, 2, 1)
"""Of the three convolutions of Mnih et al. (2015), which tensors do not tell."""


def read_cleanrl(content: bytes) -> Source:
    """The network of `torch.save(q_network.state_dict(), path)`.

    Raises:
        AdoptionError: It is another network, or more than a network.
    """
    state = read_tensors(content)
    unknown = sorted(name for name in state if not _NAME.fullmatch(name))
    if unknown:
        raise AdoptionError(
            f"expected a state_dict of network.<number>.weight and .bias, found {unknown[:4]}: "
            "policies with distributions or layers of their own are adopted as ONNX"
        )
    numbers = sorted({int(name.split(".")[1]) for name in state})
    layers = read_layers(state, [f"network.{number}" for number in numbers])
    has_pictures = isinstance(layers[0], Convolution)
    first, last = layers[0].weight, layers[-1].weight
    return Source(
        kind="cleanrl",
        facts=Facts(
            input_shape=None if has_pictures else (first.shape[1],),
            dtype="uint8" if has_pictures else "float32",
            num_actions=last.shape[0],
            library="CleanRL",
        ),
        network=Network(layers, input_divisor=255.0 if has_pictures else 1.0),
    )


def read_layers(state: Mapping[str, Any], names: list[str]) -> tuple[Layer, ...]:
    """Layers whose weights are `<name>.weight` and `<name>.bias`, in order.

    Raises:
        AdoptionError: A tensor is missing or misshapen, or the layers do not follow on each other.
    """
    layers: list[Layer] = []
    for name in names:
        try:
            weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
            tensors = Tensor.of(weight.numpy()), Tensor.of(bias.numpy())
        except (KeyError, AttributeError, TypeError, RuntimeError) as error:
            raise AdoptionError(f"{name}: expected weight and bias as tensors: {error}") from error
        if len(tensors[0].shape) == 4 and len(layers) < len(_STRIDES):
            layers.append(Convolution(*tensors, stride=_STRIDES[len(layers)]))
        elif len(tensors[0].shape) == 2:
            layers.append(Linear(*tensors))
        else:
            raise AdoptionError(
                f"{name}: weight of shape {tensors[0].shape} is neither of a linear layer nor of "
                "one of three convolutions"
            )
        if tensors[1].shape != tensors[0].shape[:1]:
            raise AdoptionError(f"{name}: bias {tensors[1].shape} beside weight {tensors[0].shape}")
    if not layers or not isinstance(layers[-1], Linear):
        raise AdoptionError("the network has no linear last layer")
    if 0 < sum(isinstance(layer, Convolution) for layer in layers) < len(_STRIDES):
        raise AdoptionError("a network with one or two convolutions is adopted as ONNX")
    return tuple(layers)
