"""How observations travel: one function a body, one function an answer."""

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

Observations = npt.NDArray[Any]
Encode = Callable[[Observations], "Request"]
Decode = Callable[[bytes], list[int]]

_JSON = {"Content-Type": "application/json"}
_OCTETS = {"Content-Type": "application/octet-stream"}
_DATATYPES = {"float32": "FP32", "uint8": "UINT8"}


@dataclass(frozen=True)
class Request:
    """One POST."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Wire:
    """A body and how its answer is read."""

    encode: Encode
    """Observations [N, *shape] to a request."""
    decode: Decode
    """An answer's body to actions [N]."""


def json_rows(path: str, field_name: str) -> Encode:
    """Nested lists under one name."""

    def encode(observations: Observations) -> Request:
        body = msgspec.json.encode({field_name: rounded_rows(observations)})
        return Request(path, body, _JSON)

    return encode


def raw_bytes(path: str) -> Encode:
    """The elements in C order and nothing else."""

    def encode(observations: Observations) -> Request:
        return Request(path, observations.tobytes(), _OCTETS)

    return encode


def base64_in_json(path: str, field_name: str, *, as_list: bool) -> Encode:
    """Frames under one name: one string for all, or a list with one an observation."""

    def encode(observations: Observations) -> Request:
        frames: str | list[str] = b64encode(observations.tobytes()).decode()
        if as_list:
            frames = [b64encode(each.tobytes()).decode() for each in observations]
        return Request(path, msgspec.json.encode({field_name: frames}), _JSON)

    return encode


def open_inference_json(path: str) -> Encode:
    """Open Inference Protocol, numbers in JSON."""

    def encode(observations: Observations) -> Request:
        data = [number for row in rounded_rows(observations) for number in row]
        return _open_inference(path, _tensor(observations) | {"data": data})

    return encode


def open_inference_base64(path: str) -> Encode:
    """Open Inference Protocol, one base64 string an observation."""

    def encode(observations: Observations) -> Request:
        frames = [b64encode(each.tobytes()).decode() for each in observations]
        tensor = {"name": "frames", "shape": [len(frames)], "datatype": "BYTES", "data": frames}
        return _open_inference(path, tensor)

    return encode


def open_inference_binary(path: str) -> Encode:
    """Open Inference Protocol with the binary tensor extension."""

    def encode(observations: Observations) -> Request:
        content = observations.tobytes()
        tensor = _tensor(observations) | {"parameters": {"binary_data_size": len(content)}}
        head = msgspec.json.encode({"inputs": [tensor]})
        headers = _OCTETS | {"Inference-Header-Content-Length": str(len(head))}
        return Request(path, head + content, headers)

    return encode


def read_actions(answer: bytes) -> list[int]:
    """Actions under that name."""
    actions: list[int] = msgspec.json.decode(answer)["actions"]
    return actions


def read_list(answer: bytes) -> list[int]:
    """Actions and nothing else."""
    actions: list[int] = msgspec.json.decode(answer)
    return actions


def read_first_output(answer: bytes) -> list[int]:
    """The first tensor of an Open Inference Protocol's answer."""
    return [int(action) for action in msgspec.json.decode(answer)["outputs"][0]["data"]]


def rounded_rows(observations: Observations) -> list[list[float]]:
    """Rows as a client writes them: float32 printed as float64 would triple the digits."""
    return [[round(float(number), 6) for number in row] for row in observations]


def _tensor(observations: Observations) -> dict[str, Any]:
    return {
        "name": "observations",
        "shape": list(observations.shape),
        "datatype": _DATATYPES[np.dtype(observations.dtype).name],
    }


def _open_inference(path: str, tensor: dict[str, Any]) -> Request:
    return Request(path, msgspec.json.encode({"inputs": [tensor]}), _JSON)
