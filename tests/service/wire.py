"""Messages of the Open Inference Protocol as bytes, by the protocol's text alone."""

import json
from typing import Any, NamedTuple

import httpx
import numpy as np
import numpy.typing as npt

from tests.service.running import Running

DTYPES = {
    "BOOL": "?",
    "UINT8": "u1",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT64": "<u8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
PIXEL_WEIGHTS = ((0.01,) * 6, (0.02, 0.02, 0.02, 0.02, 0.02, -1.0))
LEFT, RIGHT = [0.0, 0.0, -0.1, 0.0], [0.0, 0.0, 0.1, 0.0]
"""The linear policy's actions are 0 and 1; its heuristic's is always 1."""
INFER = "/v2/models/cartpole/infer"
LENGTH = "inference-header-content-length"


class Body(NamedTuple):
    """A body and its headers."""

    content: bytes
    headers: dict[str, str]


def tensor(
    values: npt.ArrayLike, datatype: str = "FP32", name: str = "observations", **changes: Any
) -> dict[str, Any]:
    """An input whose numbers are in the JSON, flat, as tritonclient sends them."""
    array = np.asarray(values, dtype=DTYPES[datatype])
    described = {"name": name, "shape": list(array.shape), "datatype": datatype}
    return described | {"data": array.ravel().tolist()} | changes


def json_body(*inputs: dict[str, Any], **fields: Any) -> Body:
    """A body without bytes behind the JSON."""
    return Body(json.dumps({"inputs": list(inputs)} | fields).encode(), {})


def binary_body(*inputs: dict[str, Any], **fields: Any) -> Body:
    """The same, each input's numbers moved behind the JSON."""
    blobs = [np.array(each["data"], dtype=DTYPES[each["datatype"]]).tobytes() for each in inputs]
    described = [
        {name: each[name] for name in ("name", "shape", "datatype")}
        | {"parameters": {"binary_data_size": len(blob)}}
        for each, blob in zip(inputs, blobs, strict=True)
    ]
    return behind({"inputs": described} | fields, *blobs)


def behind(document: dict[str, Any], *blobs: bytes) -> Body:
    """Bytes behind a document, whatever it says of them."""
    content = json.dumps(document).encode()
    return Body(content + b"".join(blobs), {LENGTH: str(len(content))})


class Read(NamedTuple):
    """A 200, read: the document and every output as an array."""

    document: dict[str, Any]
    arrays: dict[str, npt.NDArray[Any]]

    @property
    def parameters(self) -> dict[str, Any]:
        found: dict[str, Any] = self.document["parameters"]
        return found


def read(response: httpx.Response) -> Read:
    """Read an answer; httpx has undone its Content-Encoding."""
    assert response.status_code == 200, response.text
    content = response.content
    length = int(response.headers.get(LENGTH, len(content)))
    is_binary = LENGTH in response.headers
    assert response.headers["content-type"] == (
        "application/octet-stream" if is_binary else "application/json"
    )
    document, rest = json.loads(content[:length]), content[length:]
    arrays = {}
    for output in document["outputs"]:
        dtype = DTYPES[output["datatype"]]
        size = output.get("parameters", {}).get("binary_data_size")
        assert (size is None) == ("data" in output)
        if size is None:
            flat = np.array(output["data"], dtype=dtype)
        else:
            flat, rest = np.frombuffer(rest[:size], dtype), rest[size:]
        arrays[output["name"]] = flat.reshape(output["shape"])
    assert rest == b""
    return Read(document, arrays)


def ask(service: Running, body: Body, path: str = INFER, **headers: str) -> httpx.Response:
    sent = {"accept-encoding": "identity"} | body.headers | headers
    return service.client.post(path, content=body.content, headers=sent)


def assert_error(response: httpx.Response, status: int, *named: str) -> None:
    assert response.status_code == status, response.text
    # KServe's client reads the error only of exactly this type; Triton's only a string.
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    assert answer.keys() == {"error", "code"}
    assert isinstance(answer["error"], str)
    assert len(answer["error"]) < 500
    assert [name for name in named if name not in answer["error"]] == []
