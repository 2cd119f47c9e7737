"""Networks as ONNX that nobody has trained: speed does not depend on skill."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from contract.manifest import ACTIONS, FEATURES, OBSERVATIONS, Q_VALUES
from exporter.opset import OPSET

FRAMES_SHAPE = (4, 84, 84)
FRAMES_ACTIONS = 6
FRAMES_FEATURES = 64
SLOW_OBSERVATION = 8
SLOW_ACTIONS = 4
_SIDE = 128

Weights = dict[str, npt.NDArray[Any]]
Layers = list[tuple[str, list[str], str, dict[str, Any]]]
"""Operator, inputs, output and attributes of each node."""


def nature_graph(rng: np.random.Generator) -> bytes:
    """Mnih et al. (2015): three convolutions and 512 units over uint8 frames [N, 4, 84, 84]."""
    weights: Weights = {"scale": np.array(1 / 255, np.float32)}
    layers: Layers = [
        ("Cast", [OBSERVATIONS], "float_frames", {"to": TensorProto.FLOAT}),
        ("Mul", ["float_frames", "scale"], "hidden0", {}),
    ]
    shapes = ((32, 4, 8, 8), (64, 32, 4, 4), (64, 64, 3, 3))
    for number, (shape, stride) in enumerate(zip(shapes, (4, 2, 1), strict=True)):
        weights |= {f"kernel{number}": _drawn(rng, shape), f"bias{number}": _drawn(rng, shape[:1])}
        inputs = [f"hidden{number}", f"kernel{number}", f"bias{number}"]
        layers.append(("Conv", inputs, f"conv{number}", {"strides": [stride, stride]}))
        layers.append(("Relu", [f"conv{number}"], f"hidden{number + 1}", {}))
    weights |= {
        "dense": _drawn(rng, (512, 3136)),
        "dense_bias": _drawn(rng, (512,)),
        "head": _drawn(rng, (FRAMES_ACTIONS, 512)),
        "head_bias": _drawn(rng, (FRAMES_ACTIONS,)),
        "projection": _drawn(rng, (512, FRAMES_FEATURES)),
    }
    layers += [
        ("Flatten", ["hidden3"], "flat", {"axis": 1}),
        ("Gemm", ["flat", "dense", "dense_bias"], "dense_out", {"transB": 1}),
        ("Relu", ["dense_out"], "penultimate", {}),
        ("Gemm", ["penultimate", "head", "head_bias"], Q_VALUES, {"transB": 1}),
        ("MatMul", ["penultimate", "projection"], FEATURES, {}),
    ]
    return _model(layers, weights, TensorProto.UINT8, FRAMES_SHAPE, FRAMES_ACTIONS)


def slow_graph(rng: np.random.Generator, num_layers: int) -> bytes:
    """A chain of matrix products whose time grows with the rows, from [N, 8] float32.

    Each row becomes a 128 x 128 matrix of its own, so that a large batch saves nothing.
    """
    weights: Weights = {
        "spread": _drawn(rng, (SLOW_OBSERVATION, _SIDE * _SIDE)),
        "square": np.array([-1, _SIDE, _SIDE], np.int64),
        "flat": np.array([-1, _SIDE * _SIDE], np.int64),
        "head": _drawn(rng, (_SIDE * _SIDE, SLOW_ACTIONS)),
        "projection": _drawn(rng, (_SIDE * _SIDE, FRAMES_FEATURES)),
    }
    layers: Layers = [
        ("MatMul", [OBSERVATIONS, "spread"], "spread_out", {}),
        ("Reshape", ["spread_out", "square"], "hidden0", {}),
    ]
    for number in range(num_layers):
        # Orthogonal, so that values neither vanish nor explode, however long the chain is.
        weights[f"turn{number}"] = np.linalg.qr(rng.standard_normal((_SIDE, _SIDE)))[0].astype(
            np.float32
        )
        layers.append(("MatMul", [f"hidden{number}", f"turn{number}"], f"product{number}", {}))
        layers.append(("Tanh", [f"product{number}"], f"hidden{number + 1}", {}))
    layers += [
        ("Reshape", [f"hidden{num_layers}", "flat"], "penultimate", {}),
        ("MatMul", ["penultimate", "head"], Q_VALUES, {}),
        ("MatMul", ["penultimate", "projection"], FEATURES, {}),
    ]
    return _model(layers, weights, TensorProto.FLOAT, (SLOW_OBSERVATION,), SLOW_ACTIONS)


def _model(
    layers: Layers, weights: Weights, kind: int, shape: tuple[int, ...], num_actions: int
) -> bytes:
    argmax = ("ArgMax", [Q_VALUES], ACTIONS, {"axis": 1, "keepdims": 0})
    nodes = [
        helper.make_node(operator, inputs, [output], **attributes)
        for operator, inputs, output, attributes in (*layers, argmax)
    ]
    outputs = [
        helper.make_tensor_value_info(ACTIONS, TensorProto.INT64, ["batch"]),
        helper.make_tensor_value_info(Q_VALUES, TensorProto.FLOAT, ["batch", num_actions]),
        helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["batch", FRAMES_FEATURES]),
    ]
    graph = helper.make_graph(
        nodes,
        "policy",
        [helper.make_tensor_value_info(OBSERVATIONS, kind, ["batch", *shape])],
        outputs,
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    bound = np.prod(shape[1:] or shape) ** -0.5
    return rng.uniform(-bound, bound, shape).astype(np.float32)
