"""Layers written twice: as an ONNX graph, which is served, and in PyTorch, which it is held to."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor
from torch.nn import functional

from exporter.adoption.source import (
    NETWORK_INPUT,
    NETWORK_OUTPUT,
    Activation,
    Convolution,
    FloatArray,
    Linear,
    Network,
)
from exporter.opset import OPSET

_IR_VERSION: Final = 10
_OPERATORS: Final[dict[Activation, str]] = {
    "relu": "Relu",
    "tanh": "Tanh",
    "elu": "Elu",
    "leaky_relu": "LeakyRelu",
    "sigmoid": "Sigmoid",
}
_FUNCTIONS: Final[dict[Activation, Callable[[Tensor], Tensor]]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "elu": functional.elu,
    "leaky_relu": functional.leaky_relu,
    "sigmoid": torch.sigmoid,
}


def network_graph(network: Network, input_shape: tuple[int, ...]) -> bytes:
    """The network as ONNX, from `NETWORK_INPUT` [N, *input_shape] to `NETWORK_OUTPUT`."""
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, FloatArray] = {"divisor": np.array(network.input_divisor, np.float32)}
    nodes.append(helper.make_node("Div", [NETWORK_INPUT, "divisor"], ["hidden_0"]))
    for number, layer in enumerate(network.layers):
        inputs, outputs = f"hidden_{number}", f"hidden_{number + 1}"
        names = [f"weight_{number}", f"bias_{number}"]
        constants |= dict(zip(names, (layer.weight.array(), layer.bias.array()), strict=True))
        is_last = number == len(network.layers) - 1
        result = NETWORK_OUTPUT if is_last else f"sum_{number}"
        match layer:
            case Convolution(stride=stride):
                convolve = [inputs, *names], [result]
                nodes.append(helper.make_node("Conv", *convolve, strides=[stride, stride]))
            case Linear():
                flat = f"flat_{number}"
                nodes.append(helper.make_node("Flatten", [inputs], [flat], axis=1))
                nodes.append(helper.make_node("Gemm", [flat, *names], [result], transB=1))
        if not is_last:
            nodes.append(helper.make_node(_OPERATORS[network.activation], [result], [outputs]))
    num_actions = len(network.layers[-1].bias.array())
    graph = helper.make_graph(
        nodes,
        "network",
        [_floats(NETWORK_INPUT, *input_shape)],
        [_floats(NETWORK_OUTPUT, num_actions)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION
    )
    content: bytes = model.SerializeToString(deterministic=True)
    return content


@torch.no_grad()
def network_q_values(network: Network, inputs: npt.NDArray[Any]) -> FloatArray:
    """Q-values [N, num_actions] of what the network takes, [N, *input_shape].

    Raises:
        RuntimeError: The inputs do not fit the layers.
    """
    hidden = torch.from_numpy(inputs.astype(np.float32)) / network.input_divisor
    activate = _FUNCTIONS[network.activation]
    for number, layer in enumerate(network.layers):
        weight, bias = (
            torch.from_numpy(each.array().copy()) for each in (layer.weight, layer.bias)
        )
        if number > 0:
            hidden = activate(hidden)
        if isinstance(layer, Convolution):
            hidden = functional.conv2d(hidden, weight, bias, stride=layer.stride)
        else:
            hidden = functional.linear(hidden.flatten(1), weight, bias)
    q_values: FloatArray = hidden.numpy()
    return q_values


def _floats(name: str, *sizes: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *sizes])
