"""An ONNX file cut down to one input and its Q-values, with a batch axis and a served opset.

What it may not hold is what a bundle may not hold (`service.inference.proof`): no data in other
files, no operators of others, no control flow.
"""

from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, compose, version_converter

from contract.bundle import BundleError
from exporter.adoption.batch_axis import open_batch_axis, q_values_of_two
from exporter.adoption.source import (
    NETWORK_INPUT,
    NETWORK_OUTPUT,
    AdoptionError,
    Facts,
    Source,
)
from exporter.opset import OPSET
from service.inference.proof import OPSETS, inspect_model

_PREFIX: Final = "adopted/"
_BATCH: Final = "N"
_FLOATS: Final = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)
_DTYPES: Final = {
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
    TensorProto.UINT8: "uint8",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
}
_IR_VERSIONS: Final = range(8, 11)
"""From the oldest that all served opsets are at home in to the newest that the runtime reads."""


def read_onnx(content: bytes, q_output: str | None) -> Source:
    """The part of a graph that leads from observations to Q-values.

    Args:
        content: The file.
        q_output: The tensor with the Q-values, an output or not; None finds it.

    Raises:
        AdoptionError: It is no model, holds what may not be served, or its Q-values or its input
            cannot be told.
    """
    model = _parse(content)
    _refuse_external_data(model)
    _refuse_control_flow(model)
    model = _with_served_opset(model)
    taken = _only_input(model)
    dtype = _DTYPES.get(taken.type.tensor_type.elem_type)
    if dtype is None:
        raise AdoptionError(f"input {taken.name} is of element type that no observation has")
    shape = _input_shape(taken)
    q_name = q_output or _find_q_values(model)
    graph = _cut(model, taken.name, q_name)
    try:
        inspect_model(graph)
    except BundleError as error:
        raise AdoptionError(str(error)) from error
    graph, num_actions = _with_open_batch_axis(graph, shape, dtype, q_name)
    return Source(
        kind="onnx",
        facts=Facts(
            input_shape=shape,
            dtype=dtype,
            num_actions=num_actions,
            library=f"{model.producer_name or 'unknown'} {model.producer_version}".strip()[:40],
        ),
        graph=graph,
    )


def _parse(content: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf raises types of its own
        raise AdoptionError(f"not an ONNX model: {error}") from error
    if not model.graph.node:
        raise AdoptionError("not an ONNX model: it has no graph")
    # Older files list weights among the inputs, where a caller could replace them.
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    return model


def _refuse_external_data(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise AdoptionError(
                f"tensor {tensor.name} is in another file, which could be any file of this "
                "machine: save the model in one (onnx.save(onnx.load(path), path))"
            )


def _refuse_control_flow(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        # A branch may use any tensor of the graph without naming it among its node's inputs.
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise AdoptionError(f"the graph has control flow ({node.op_type})")


def _with_served_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    domains = {opset.domain: opset.version for opset in model.opset_import}
    version = domains.get("", domains.get("ai.onnx"))
    if version not in OPSETS:
        try:
            model = version_converter.convert_version(model, OPSET)
        except Exception as error:  # the converter raises RuntimeError and others
            raise AdoptionError(
                f"opset {version} cannot be converted to {OPSET}: export again with opset {OPSET}; "
                f"{str(error).splitlines()[0]}"
            ) from error
    model.ir_version = min(max(model.ir_version, _IR_VERSIONS[0]), _IR_VERSIONS[-1])
    return model


def _only_input(model: onnx.ModelProto) -> Any:
    inputs = list(model.graph.input)
    if len(inputs) != 1:
        names = [value.name for value in inputs]
        raise AdoptionError(
            f"the graph takes {names}, expected one input: masks are added at adoption, and a "
            "policy with a state of its own cannot be served"
        )
    return inputs[0]


def _input_shape(taken: Any) -> tuple[int, ...]:
    """Of one observation."""
    sizes = [dimension.dim_value for dimension in taken.type.tensor_type.shape.dim]
    if len(sizes) < 2 or min(sizes[1:]) < 1:
        raise AdoptionError(
            f"input {taken.name} has sizes {sizes}, where 0 is open: expected a batch axis and the "
            "fixed shape of an observation; export it with only the batch axis dynamic"
        )
    return tuple(sizes[1:])


def _find_q_values(model: onnx.ModelProto) -> str:
    """The output that can only be the Q-values, or what the actions are the argmax of."""
    floats = [
        value.name
        for value in model.graph.output
        if value.type.tensor_type.elem_type in _FLOATS
        and len(value.type.tensor_type.shape.dim) in (0, 2)
    ]
    named = [name for name in floats if name == "q_values"]
    found = named or floats
    if not found:
        makers = {name: node for node in model.graph.node for name in node.output}
        ends = [makers.get(_before_casts(value.name, makers)) for value in model.graph.output]
        found = [node.input[0] for node in ends if node is not None and node.op_type == "ArgMax"]
    if len(found) != 1:
        outputs = [value.name for value in model.graph.output]
        raise AdoptionError(
            f"of the outputs {outputs}, {len(found)} may be Q-values [N, num_actions]: name the "
            "tensor with --q-output"
        )
    return str(found[0])


def _before_casts(name: str, makers: dict[str, Any]) -> str:
    """What a tensor was before it was cast, squeezed or renamed."""
    while name in makers and makers[name].op_type in ("Cast", "Identity", "Squeeze", "Reshape"):
        name = makers[name].input[0]
    return name


def _cut(model: onnx.ModelProto, input_name: str, q_name: str) -> bytes:
    """The nodes between input and Q-values, as bytes; all names out of the way of our own."""
    nodes = list(model.graph.node)
    made = {name for node in nodes for name in node.output}
    if q_name not in made:
        raise AdoptionError(f"no node gives {q_name}: it cannot hold the Q-values")
    needed, kept = {q_name}, []
    for node in reversed(nodes):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    if input_name not in needed:
        raise AdoptionError(f"{q_name} does not depend on {input_name}")
    last = next(node for node in kept if q_name in node.output)
    if last.op_type in ("Softmax", "LogSoftmax"):
        raise AdoptionError(
            f"{q_name} comes out of a {last.op_type}: these are probabilities of a stochastic "
            "policy, not Q-values, and nothing that is watched here would mean anything"
        )
    graph = model.graph
    del graph.node[:], graph.output[:], graph.value_info[:]
    graph.node.extend(reversed(kept))
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(weights)
    shape = graph.input[0].type.tensor_type.shape
    shape.dim[0].Clear()
    shape.dim[0].dim_param = _BATCH
    graph.output.append(
        onnx.helper.make_tensor_value_info(q_name, TensorProto.FLOAT, [_BATCH, None])
    )
    del model.metadata_props[:]
    model = compose.add_prefix(model, _PREFIX)
    _rename(model.graph, _PREFIX + input_name, NETWORK_INPUT)
    _rename(model.graph, _PREFIX + q_name, NETWORK_OUTPUT)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for value in (*graph.input, *graph.output):
        if value.name == old:
            value.name = new
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]


def _with_open_batch_axis(
    graph: bytes, shape: tuple[int, ...], dtype: str, q_name: str
) -> tuple[bytes, int]:
    """The graph as it answers two observations at once, and the number of actions."""
    try:
        found = q_values_of_two(graph, shape, dtype)
    except Exception as error:  # onnxruntime raises many types, none of them public
        opened = open_batch_axis(graph, shape, dtype)
        if opened is None:
            raise AdoptionError(
                f"the graph does not run on two observations of shape {list(shape)}: export it "
                f"with a dynamic batch axis; {str(error).splitlines()[0][:300]}"
            ) from error
        graph, found = opened, q_values_of_two(opened, shape, dtype)
    if found.ndim != 2 or len(found) != 2 or found.dtype != np.float32:
        raise AdoptionError(
            f"{q_name} is {found.dtype} of shape {list(found.shape)} for two observations, "
            "expected float32 [2, num_actions]"
        )
    return graph, int(found.shape[1])
