"""The served graph of an adopted policy: preparation, network, mask and argmax."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from contract.declaration import ActionSpec
from contract.manifest import ACTION_MASK, ACTIONS, OBSERVATIONS, Q_VALUES
from exporter.adoption.preparation import Preparation, preparation_nodes
from exporter.adoption.source import NETWORK_OUTPUT


def serving_graph(network: bytes, preparation: Preparation, actions: ActionSpec) -> bytes:
    """One self-contained ONNX model with the inputs and outputs of a bundle.

    Args:
        network: ONNX from `NETWORK_INPUT` to `NETWORK_OUTPUT`.
        preparation: What comes before it.
        actions: How many, and whether requests may mask them.
    """
    model = onnx.load_model_from_string(network)
    graph = model.graph
    element_type = graph.input[0].type.tensor_type.elem_type
    before, constants = preparation_nodes(preparation, element_type)
    after = [helper.make_node("Identity", [NETWORK_OUTPUT], [Q_VALUES])]
    observation = preparation.observation
    inputs = [_tensor(OBSERVATIONS, observation.numpy_dtype, *observation.shape)]
    legal = Q_VALUES
    if actions.masked:
        inputs.append(_tensor(ACTION_MASK, np.dtype(np.bool_), actions.count))
        constants.append(numpy_helper.from_array(np.array([-np.inf], np.float32), "illegal"))
        legal = "legal_q_values"
        after.append(helper.make_node("Where", [ACTION_MASK, Q_VALUES, "illegal"], [legal]))
    after.append(helper.make_node("ArgMax", [legal], [ACTIONS], axis=1, keepdims=0))
    served = helper.make_graph(
        [*before, *graph.node, *after],
        "policy",
        inputs,
        [
            _tensor(ACTIONS, np.dtype(np.int64)),
            _tensor(Q_VALUES, np.dtype(np.float32), actions.count),
        ],
        [*constants, *graph.initializer],
    )
    content: bytes = helper.make_model(
        served, opset_imports=model.opset_import, ir_version=model.ir_version
    ).SerializeToString(deterministic=True)
    return content


def _tensor(name: str, dtype: np.dtype[Any], *sizes: int) -> onnx.ValueInfoProto:
    element_type = TensorProto.BOOL if dtype == np.bool_ else helper.np_dtype_to_tensor_dtype(dtype)
    return helper.make_tensor_value_info(name, element_type, ["N", *sizes])
