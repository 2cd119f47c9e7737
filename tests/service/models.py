"""Small real models that do what a test needs: give NaN, take long, be foul."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from contract.bundle import Golden, write_bundle
from contract.declaration import PolicyDeclaration, write_declaration
from contract.manifest import ACTIONS, OBSERVATIONS, Q_VALUES
from tests import builders

ROOT_WEIGHTS = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0))
SLOW_WIDTH = 1024


def build(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, npt.NDArray[Any]],
    *,
    opset: int = builders.OPSET,
    batch: str | int = "N",
    outputs: Sequence[str] = (ACTIONS, Q_VALUES),
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """A graph from observations [N, 4] of float32 to two actions."""
    kinds = {
        ACTIONS: helper.make_tensor_value_info(ACTIONS, TensorProto.INT64, [batch]),
        Q_VALUES: helper.make_tensor_value_info(Q_VALUES, TensorProto.FLOAT, [batch, 2]),
    }
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info(OBSERVATIONS, TensorProto.FLOAT, [batch, 4])],
        [kinds[name] for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    imports = [helper.make_opsetid(domain, 1) for domain in domains]
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset), *imports], ir_version=8
    )


def linear_nodes(actions_from: str = Q_VALUES) -> list[onnx.NodeProto]:
    """`q_values = observations @ weights.T + bias` and their argmax."""
    return [
        helper.make_node("Gemm", [OBSERVATIONS, "weights", "bias"], [Q_VALUES], transB=1),
        helper.make_node("ArgMax", [actions_from], [ACTIONS], axis=1, keepdims=0),
    ]


def linear_constants() -> dict[str, npt.NDArray[Any]]:
    return {
        "weights": np.array(builders.WEIGHTS, dtype=np.float32),
        "bias": np.array(builders.BIAS, dtype=np.float32),
    }


def root_model() -> bytes:
    """`q_values = sqrt(observations[:2])`: NaN where an element is negative."""
    nodes = [
        helper.make_node("Gemm", [OBSERVATIONS, "weights"], ["squares"], transB=1),
        helper.make_node("Sqrt", ["squares"], [Q_VALUES]),
        helper.make_node("ArgMax", [Q_VALUES], [ACTIONS], axis=1, keepdims=0),
    ]
    weights = np.array(ROOT_WEIGHTS, dtype=np.float32)
    return bytes(build(nodes, {"weights": weights}).SerializeToString())


def root_golden() -> Golden:
    observations = np.array([[4, 9, 0, 0], [16, 1, 0, 0]], dtype=np.float32)
    return Golden(observations, np.sqrt(observations[:, :2]))


def slow_model(layers: int = 40) -> bytes:
    """The linear policy after `layers` products of SLOW_WIDTH^2 numbers that come to nothing."""
    nodes = [helper.make_node("MatMul", [OBSERVATIONS, "widen"], ["layer_0"])]
    nodes += [
        helper.make_node("MatMul", [f"layer_{layer}", "square"], [f"layer_{layer + 1}"])
        for layer in range(layers)
    ]
    nodes += [
        helper.make_node("MatMul", [f"layer_{layers}", "narrow"], ["nothing"]),
        helper.make_node("Gemm", [OBSERVATIONS, "weights", "bias"], ["linear"], transB=1),
        helper.make_node("Add", ["linear", "nothing"], [Q_VALUES]),
        helper.make_node("ArgMax", [Q_VALUES], [ACTIONS], axis=1, keepdims=0),
    ]
    zeros = {
        "widen": np.zeros((4, SLOW_WIDTH), dtype=np.float32),
        "square": np.zeros((SLOW_WIDTH, SLOW_WIDTH), dtype=np.float32),
        "narrow": np.zeros((SLOW_WIDTH, 2), dtype=np.float32),
    }
    return bytes(build(nodes, linear_constants() | zeros).SerializeToString())


def follower_model() -> bytes:
    """Drops the rows whose first element is negative: its output's length follows the data."""
    nodes = [
        helper.make_node("Gather", [OBSERVATIONS, "first"], ["firsts"], axis=1),
        helper.make_node("GreaterOrEqual", ["firsts", "zero"], ["kept"]),
        helper.make_node("Compress", [OBSERVATIONS, "kept"], ["rows"], axis=0),
        helper.make_node("Gemm", ["rows", "weights", "bias"], [Q_VALUES], transB=1),
        helper.make_node("ArgMax", [Q_VALUES], [ACTIONS], axis=1, keepdims=0),
    ]
    constants = linear_constants() | {
        "first": np.array(0, dtype=np.int64),
        "zero": np.array(0.0, dtype=np.float32),
    }
    return bytes(build(nodes, constants).SerializeToString())


def write_model(
    repository: Path,
    model: bytes | onnx.ModelProto,
    golden: Golden | None = None,
    declared: PolicyDeclaration | None = None,
    **changes: Any,
) -> Path:
    """A bundle around any model, hashes right; returns the version's folder."""
    declared = declared or builders.declaration()
    manifest = builders.manifest(declared, **changes)
    directory = repository / manifest.policy / str(manifest.version)
    directory.parent.mkdir(parents=True, exist_ok=True)
    write_declaration(directory.parent, declared)
    content = model if isinstance(model, bytes) else bytes(model.SerializeToString())
    write_bundle(
        directory, manifest, model=content, golden=golden or builders.golden(declared), card="#\n"
    )
    return directory
