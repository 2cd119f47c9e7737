"""Graphs that were traced with one observation, and wrote that one into their shapes.

d3rlpy's is such a graph. Which 1 of a constant shape is the batch cannot be read off it, but it can
be tried: with the right ones left open, two observations give what each gives alone.
"""

from itertools import islice, product
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from exporter.adoption.source import NETWORK_INPUT, NETWORK_OUTPUT
from service.inference.policy import open_session

_MOST_TRIALS: Final = 256
_TOLERANCE: Final = 1e-5


def q_values_of_two(graph: bytes, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    """What a graph gives for two observations that differ.

    Raises:
        Exception: Of ONNX Runtime's types, which are not public, where it does not run.
    """
    session = open_session(graph)
    (found,) = session.run([NETWORK_OUTPUT], {NETWORK_INPUT: _two(shape, dtype)})
    return np.asarray(found)


def open_batch_axis(graph: bytes, shape: tuple[int, ...], dtype: str) -> bytes | None:
    """The graph with its batch axis open; None where no way of opening it gives the same answers.

    Args:
        graph: From `NETWORK_INPUT` to `NETWORK_OUTPUT`, right for one observation.
        shape: Of one observation.
        dtype: Of its numbers.
    """
    model = onnx.load_model_from_string(graph)
    try:
        session = open_session(graph)
        alone = [
            session.run([NETWORK_OUTPUT], {NETWORK_INPUT: row[None]})[0]
            for row in _two(shape, dtype)
        ]
    except Exception:  # noqa: BLE001  # onnxruntime raises many types, none of them public
        return None
    expected = np.concatenate(alone)
    choices = [_openings(sizes) for sizes in _constant_shapes(model)]
    for shapes in islice(product(*choices), _MOST_TRIALS):
        opened = _with_constant_shapes(model, list(shapes))
        try:
            found = q_values_of_two(opened, shape, dtype)
        except Exception:  # noqa: BLE001  # as above: this way of opening it was a wrong one
            continue
        if found.shape == expected.shape and np.allclose(found, expected, atol=_TOLERANCE):
            return opened
    return None


def _two(shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    """Two observations of small numbers, all of them different."""
    numbers = np.arange(1, 2 * int(np.prod(shape)) + 1).reshape(2, *shape)
    return (numbers % 251).astype(dtype) if dtype == "uint8" else (numbers / 100).astype(dtype)


def _openings(sizes: list[int]) -> list[list[int]]:
    """The shape with one of its 1s left open, each in turn, and as it is."""
    if -1 in sizes:
        return [sizes]
    opened = [
        [*sizes[:axis], -1, *sizes[axis + 1 :]] for axis, size in enumerate(sizes) if size == 1
    ]
    return [*opened, sizes]


def _constant_shapes(model: onnx.ModelProto) -> list[list[int]]:
    return [numpy_helper.to_array(each).tolist() for each in _shape_tensors(model)]


def _with_constant_shapes(model: onnx.ModelProto, shapes: list[list[int]]) -> bytes:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor, sizes in zip(_shape_tensors(changed), shapes, strict=True):
        tensor.CopyFrom(numpy_helper.from_array(np.array(sizes, np.int64), tensor.name))
    content: bytes = changed.SerializeToString(deterministic=True)
    return content


def _shape_tensors(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """The constants that Reshape nodes take their shape from, in the graph's order."""
    named = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            named[node.output[0]] = node.attribute[0].t
    wanted = [node.input[1] for node in model.graph.node if node.op_type == "Reshape"]
    return [named[name] for name in dict.fromkeys(wanted) if name in named]
