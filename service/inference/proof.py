"""May a bundle serve? Nothing takes traffic that has not passed here.

The model is opened in a child process first, so that a parser's crash costs a child; then here,
from the same bytes. Only the child imports `onnx`.
"""

import asyncio
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from contract.bundle import Bundle, BundleError, Golden
from contract.declaration import PolicyDeclaration
from contract.manifest import (
    ACTION_MASK,
    ACTIONS,
    OBSERVATIONS,
    Q_VALUES,
    Manifest,
    ManifestError,
    decode_manifest,
    encode_manifest,
)
from service.inference.policy import Decided, Policy, Provider, open_session

OPSETS: Final = range(17, 22)
"""Opsets that were tried with the pinned ONNX Runtime."""
WARM_BATCHES: Final = (1, 2, 4, 8, 16, 32, 64)
Q_TOLERANCE: Final = 1e-4
"""Largest |found - golden| / max(1, |golden|)."""

_DOMAINS: Final = ("", "ai.onnx")
_CHILD_SECONDS: Final = 60.0
_CHILD_NICENESS: Final = 10
_CHILD_BYTES: Final = 8 * 1024**3
_TYPES: Final = {
    "float32": "tensor(float)",
    "float64": "tensor(double)",
    "uint8": "tensor(uint8)",
    "int32": "tensor(int32)",
    "int64": "tensor(int64)",
}


async def prove_in_child(bundle: Bundle) -> None:
    """Open and try the model in a process of its own.

    Raises:
        BundleError: The child refused the bundle, crashed on it, or took too long.
    """
    question = msgspec.msgpack.encode(
        [
            encode_manifest(bundle.manifest),
            bundle.model,
            _pack(bundle.golden.observations),
            _pack(bundle.golden.q_values),
        ]
    )
    # In threads: the event loop's own way to start a child waits until the child runs.
    child = await asyncio.to_thread(_start_child)
    try:
        answer, _ = await asyncio.to_thread(child.communicate, question, _CHILD_SECONDS)
    except subprocess.TimeoutExpired:
        raise BundleError(f"the model did not open within {_CHILD_SECONDS:.0f} s") from None
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    if child.returncode != 0:
        said = answer.decode(errors="replace").strip()
        raise BundleError(said or f"the model crashed its child process ({child.returncode})")


def prove(bundle: Bundle, providers: Sequence[Provider] = ("cpu",)) -> Policy:
    """Open the bundle's model here and hold it to its manifest and its golden batch.

    Raises:
        BundleError: It does not run, or does not answer as it must.
    """
    manifest = bundle.manifest
    name = f"{manifest.policy} v{manifest.version}"
    try:
        session = open_session(bundle.model, providers)
        _check_signature(session.get_inputs(), session.get_outputs(), manifest)
        policy = Policy(manifest, session)
        _check_golden(policy, bundle.golden)
        for rows in WARM_BATCHES:
            policy.decide(_repeat(bundle.golden.observations, rows))
    except BundleError as error:
        raise BundleError(f"{name}: {error}") from error
    except Exception as error:  # onnxruntime raises many types, none of them public
        raise BundleError(f"{name}: the model does not run: {error}") from error
    return policy


def check_declared(bundle: Bundle, declaration: PolicyDeclaration) -> None:
    """Raise BundleError where the bundle disagrees with `policy.toml`."""
    try:
        bundle.manifest.check_declaration(declaration)
    except ManifestError as error:
        raise BundleError(str(error)) from error


def inspect_model(model: bytes) -> None:
    """Refuse what no exporter of ours writes: external data, foreign operators, control flow.

    Raises:
        BundleError: The bytes are not a model, or hold what may not be served.
    """
    # Only the child process comes here: the server starts where onnx is not installed.
    import onnx

    try:
        proto = onnx.load_model_from_string(model)
        onnx.checker.check_model(proto)
    except Exception as error:  # protobuf and onnx raise types of their own
        raise BundleError(f"model.onnx is not a valid model: {error}") from error
    faults = [*_opset_faults(proto), *_storage_faults(proto), *_node_faults(proto)]
    if faults:
        raise BundleError(f"model.onnx {faults[0]}")


def _opset_faults(proto: Any) -> Iterator[str]:
    for opset in proto.opset_import:
        if opset.domain not in _DOMAINS:
            yield f"uses operators of domain {opset.domain!r}"
        elif opset.version not in OPSETS:
            yield f"has opset {opset.version}; {OPSETS[0]} to {OPSETS[-1]} are served"
    if proto.functions:
        yield "defines functions of its own"


def _storage_faults(proto: Any) -> Iterator[str]:
    attributes = [each for node in proto.graph.node for each in node.attribute]
    if proto.graph.sparse_initializer or any(
        each.HasField("sparse_tensor") or each.sparse_tensors for each in attributes
    ):
        yield "holds sparse tensors"
    constants = [tensor for each in attributes for tensor in (each.t, *each.tensors)]
    for tensor in (*proto.graph.initializer, *constants):
        # data_location 1 is EXTERNAL: the tensor's bytes are in a file that no hash covers.
        if tensor.data_location == 1 or tensor.external_data:
            yield f"keeps tensor {tensor.name!r} in another file"


def _node_faults(proto: Any) -> Iterator[str]:
    for node in proto.graph.node:
        if node.domain not in _DOMAINS:
            yield f"uses operator {node.domain}.{node.op_type}"
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            yield f"has control flow ({node.op_type})"


def _check_signature(inputs: Sequence[Any], outputs: Sequence[Any], manifest: Manifest) -> None:
    taken = {tensor.name: (tensor.type, list(tensor.shape)) for tensor in inputs}
    expected = {
        OBSERVATIONS: (_TYPES[manifest.observation.dtype], list(manifest.observation.shape))
    }
    if manifest.actions.masked:
        expected[ACTION_MASK] = ("tensor(bool)", [manifest.actions.count])
    if taken.keys() != expected.keys():
        raise BundleError(f"the model takes {sorted(taken)}, expected {sorted(expected)}")
    for name, (dtype, shape) in expected.items():
        found_dtype, found_shape = taken[name]
        if found_dtype != dtype or found_shape[1:] != shape or isinstance(found_shape[0], int):
            raise BundleError(
                f"input {name} is {found_dtype} {found_shape}, "
                f"expected {dtype} with a free batch axis and {shape}"
            )
    given = {tensor.name for tensor in outputs}
    if not {ACTIONS, Q_VALUES} <= given:
        raise BundleError(f"the model gives {sorted(given)}, expected {ACTIONS} and {Q_VALUES}")


def _check_golden(policy: Policy, golden: Golden) -> None:
    expected = golden.q_values
    rows = len(expected)
    # Two rows and more: a batch axis frozen at 1 passes every single-row check.
    whole = policy.decide(_repeat(golden.observations, max(rows, 2)))
    _check_shapes(whole, max(rows, 2), policy.manifest.actions.count)
    scale = np.maximum(1.0, np.abs(expected))
    difference = np.abs(whole.q_values[:rows] - expected) / scale
    # Written so that a NaN, which compares false, is refused.
    if not np.all(difference <= Q_TOLERANCE):
        raise BundleError(f"q_values differ from the golden batch by {difference.max():.2g}")
    single = policy.decide(golden.observations[:1])
    _check_shapes(single, 1, policy.manifest.actions.count)
    if not np.all(np.abs(single.q_values - expected[:1]) / scale[:1] <= Q_TOLERANCE):
        raise BundleError("q_values depend on the size of the batch")
    if not np.array_equal(whole.actions, whole.q_values.argmax(axis=1)):
        raise BundleError("actions are not the argmax of q_values")
    if policy.manifest.actions.masked:
        _check_masks(policy, golden.observations)


def _check_masks(policy: Policy, observations: npt.NDArray[Any]) -> None:
    count = policy.manifest.actions.count
    for legal in range(count):
        masks = np.zeros((len(observations), count), dtype=np.bool_)
        masks[:, legal] = True
        if np.any(policy.decide(observations, masks).actions != legal):
            raise BundleError(f"the model ignores the mask (only action {legal} was legal)")


def _check_shapes(decided: Decided, rows: int, num_actions: int) -> None:
    found = (decided.actions.shape, decided.q_values.shape)
    if found != ((rows,), (rows, num_actions)) or decided.actions.dtype != np.int64:
        raise BundleError(
            f"for {rows} observations the model gives actions {found[0]} of "
            f"{decided.actions.dtype} and q_values {found[1]}"
        )


def _repeat(observations: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    """The golden observations as often as it takes, [rows, *shape]."""
    return np.resize(observations, (rows, *observations.shape[1:]))


def _pack(array: npt.NDArray[Any]) -> tuple[str, tuple[int, ...], bytes]:
    return array.dtype.name, array.shape, array.tobytes()


def _unpack(packed: tuple[str, tuple[int, ...], bytes]) -> npt.NDArray[Any]:
    dtype, shape, data = packed
    return np.frombuffer(data, dtype=dtype).reshape(shape)


def _start_child() -> "subprocess.Popen[bytes]":
    child = subprocess.Popen(
        [sys.executable, "-m", "service.inference.proof"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    # Beside live traffic: what is idle, and no more, from the first import on.
    os.setpriority(os.PRIO_PROCESS, child.pid, _CHILD_NICENESS)
    return child


def _child_main() -> int:
    resource.setrlimit(resource.RLIMIT_AS, (_CHILD_BYTES, _CHILD_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    manifest, model, observations, q_values = msgspec.msgpack.decode(sys.stdin.buffer.read())
    try:
        inspect_model(model)
        golden = Golden(_unpack(observations), _unpack(q_values))
        prove(Bundle(decode_manifest(manifest), "", model, golden))
    except BundleError as error:
        sys.stdout.write(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_child_main())
