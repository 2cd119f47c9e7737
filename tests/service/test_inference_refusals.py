"""What infer refuses, always as JSON with a sentence: no crash, no 422, no 5xx."""

import gzip
import math
import zlib
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from tests.service.running import Running, post
from tests.service.wire import (
    INFER,
    LEFT,
    LENGTH,
    RIGHT,
    Body,
    ask,
    assert_error,
    behind,
    binary_body,
    json_body,
    read,
    tensor,
)

BOTH_BINARY = {"binary_data_output": True}
ONE = tensor([RIGHT])
MASK = tensor([[True, True]], "BOOL", "action_mask")


def test_a_body_that_swells_beyond_the_limit_is_refused(several: Running) -> None:
    limit = several.server.settings.body_max_bytes
    for name, compress in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        bomb = compress(b" " * (limit + 1))
        assert len(bomb) < limit / 500
        response = ask(several, Body(bomb, {}), **{"content-encoding": name})
        assert_error(response, 413, str(limit))
    fits = json_body(tensor([RIGHT])).content
    whole = gzip.compress(fits + b" " * (limit - len(fits)))
    assert read(ask(several, Body(whole, {}), **{"content-encoding": "gzip"}))


@pytest.mark.parametrize(
    ("name", "change", "status", "named"),
    [
        ("gzip", lambda content: content[:-3], 400, "cut short"),
        ("gzip", lambda content: content + b"x", 400, "goes on"),
        ("gzip", lambda content: b"x" + content, 400, "not gzip"),
        ("deflate", lambda content: content, 400, "not deflate"),
        ("br", lambda content: content, 415, "gzip or deflate, found 'br'"),
    ],
)
def test_a_body_that_is_not_what_its_encoding_says_is_refused(
    several: Running, name: str, change: Any, status: int, named: str
) -> None:
    content = change(gzip.compress(json_body(tensor([RIGHT])).content))
    response = ask(several, Body(content, {}), **{"content-encoding": name})
    assert_error(response, status, named)
    if status == 415:
        assert response.headers["accept-encoding"] == "gzip, deflate"


def described(size: int | None = 16, **changes: Any) -> dict[str, Any]:
    parameters = {} if size is None else {"parameters": {"binary_data_size": size}}
    return {"name": "observations", "shape": [1, 4], "datatype": "FP32"} | parameters | changes


BLOB = np.array(RIGHT, "<f4").tobytes()
BAD: list[tuple[Body, list[str]]] = [
    # (body, what the error names)
    (behind({"inputs": [described()]}, BLOB[:-1]), ["16 bytes behind", "found 15"]),
    (behind({"inputs": [described()]}, BLOB, b"x"), ["1 bytes are left over"]),
    (behind({"inputs": [described(12)]}, BLOB[:12]), ["FP32 of shape [1, 4] has 16", "found 12"]),
    (behind({"inputs": [described(20)]}, BLOB + b"1234"), ["has 16", "found 20"]),
    (behind({"inputs": [described(2**62)]}, BLOB), ["found 16"]),
    (behind({"inputs": [described(-1)]}, BLOB), ["binary_data_size", ">= 0"]),
    (behind({"inputs": [described(None)]}, BLOB), ["16 bytes are left over"]),
    (behind({"inputs": [described(data=RIGHT)]}, BLOB), ["once", "both"]),
    (json_body(described(None)), ["once", "neither"]),
    (json_body(described(None, data=None)), ["once", "neither"]),
    (json_body(described()), ["16 bytes behind the JSON", "found 0"]),
    (
        json_body(ONE | {"parameters": {"shared_memory_region": "r"}}),
        ["shared memory is not served"],
    ),
    (json_body(tensor(RIGHT)), ["shape [-1, 4]", "found [4]"]),
    (json_body(tensor([[RIGHT]])), ["shape [-1, 4]", "found [1, 1, 4]"]),
    (json_body(tensor([[0.0, 0.0, 0.1]])), ["shape [-1, 4]", "found [1, 3]"]),
    (json_body(tensor(np.zeros((0, 4)))), ["at least one row", "[0, 4]"]),
    (json_body(ONE | {"shape": []}), ["shape [-1, 4]", "found []"]),
    (json_body(ONE | {"shape": [-1, 4]}), ["shape", ">= 0"]),
    (json_body(ONE | {"shape": [2**62, 4]}), ["at most 1024 rows"]),
    (json_body(ONE | {"shape": [1, 4] * 100_000}), ["shape [-1, 4]"]),
    (json_body(tensor([RIGHT] * 1025)), ["at most 1024 rows", "1025"]),
    (json_body(ONE | {"data": [0, 0, 1]}), ["4 numbers", "[3]"]),
    (json_body(ONE | {"data": [[0, 0, 0, 1], [1, 0, 0, 0]]}), ["4 numbers", "[2, 4]"]),
    (json_body(ONE | {"data": [[0, 0], [0, 1]]}), ["4 numbers", "[2, 2]"]),
    (json_body(ONE | {"data": [[0, 0, 0], [1]]}), ["different lengths"]),
    (json_body(ONE | {"data": [0, 0, "1", 0]}), ["inputs.observations", "float", "str"]),
    (json_body(ONE | {"data": [0, 0, None, 0]}), ["inputs.observations", "float", "null"]),
    (json_body(ONE | {"data": {}}), ["array", "object"]),
    (json_body(ONE | {"data": [0, 0, 1e39, 0]}), ["observations[0, 2]", "finite FP32", "inf"]),
    (
        Body(
            b'{"inputs":[{"name":"observations","shape":[1,4],"datatype":"FP32","data":[NaN,0,0,0]}]}',
            {},
        ),
        [],
    ),
    (binary_body(ONE | {"data": [0, math.nan, 0, 0]}), ["observations[0, 1]", "finite", "nan"]),
    (binary_body(ONE | {"data": [0, 0, 0, -math.inf]}), ["observations[0, 3]", "-inf"]),
    (binary_body(tensor([[0, 1e300, 0, 0]], "FP64")), ["observations[0, 1]", "finite FP32", "inf"]),
    (json_body(tensor([[0, 0, 1, 0]], "INT64")), ["datatype FP32", "'INT64'"]),
    (json_body(ONE | {"datatype": "BYTES"}), ["datatype FP32", "'BYTES'"]),
    (json_body(ONE | {"datatype": "BF16"}), ["datatype FP32", "'BF16'"]),
    (json_body(tensor([RIGHT], "FP16")), ["FP16 has no JSON form"]),
    (json_body(ONE, ONE), ["each name once"]),
    (json_body(ONE | {"name": "obs"}), ["expected observations", "'obs'"]),
    (json_body(ONE, MASK), ["expected observations", "action_mask"]),
    (json_body(), ["expected observations", "[]"]),
    (json_body(ONE, outputs=[{"name": "values"}]), ["actions or q_values", "'values'"]),
    (json_body(ONE, outputs=[{"name": "actions"}] * 2), ["outputs", "each name once"]),
    (
        json_body(ONE, outputs=[{"name": "q_values", "parameters": {"classification": 2}}]),
        ["classification"],
    ),
    (
        json_body(ONE, outputs=[{"name": "actions", "parameters": {"shared_memory_region": "r"}}]),
        ["shared memory"],
    ),
    (json_body(ONE, id=7), ["$.id", "str", "int"]),
    (json_body(ONE, parameters={"timeout": -1}), ["timeout", ">= 0"]),
    (json_body(ONE, parameters={"timeout": "soon"}), ["timeout", "int"]),
    (json_body(ONE, parameters={"step": -1}), ["step", ">= 0"]),
    (json_body(ONE, parameters={"episode_id": "a/b"}), ["episode_id", "'a/b'"]),
    (json_body(ONE, parameters={"decision_id": ""}), ["decision_id"]),
    (
        json_body(tensor([RIGHT, LEFT]), parameters={"episode_id": "a"}),
        ["episode_id", "one row", "2"],
    ),
    (json_body(tensor([RIGHT, LEFT]), parameters={"step": 1}), ["step", "one row", "2"]),
    (Body(b"", {}), []),
    (Body(b"[]", {}), ["object", "array"]),
    (Body(b'{"inputs": "\xff"}', {}), []),
    (Body(b'{"inputs": [' + b"[" * 100_000, {}), []),
    (Body(b"{}", {}), ["inputs"]),
    *(
        (
            Body(json_body(ONE).content, {LENGTH: length}),
            ["Inference-Header-Content-Length", "body"],
        )
        for length in ("9999", "-1", "+5", "1_0", "ten", "", "1.0", "9" * 5000)
    ),
]


@pytest.mark.parametrize(("body", "named"), BAD)
def test_bad_requests_are_400_with_a_sentence(
    several: Running, body: Body, named: list[str]
) -> None:
    assert_error(ask(several, body), 400, *named)


@pytest.mark.parametrize(
    ("mask", "named"),
    [
        (tensor([[True, False]] * 2, "BOOL", "action_mask"), ["expected 1 rows, found 2"]),
        (tensor([[False, False]], "BOOL", "action_mask"), ["action_mask[0]", "no legal action"]),
        (tensor([[True, True, True]], "BOOL", "action_mask"), ["shape [-1, 2]", "[1, 3]"]),
        (tensor([[1, 1]], "UINT8", "action_mask"), ["datatype BOOL", "'UINT8'"]),
        (MASK | {"data": [1, 0]}, ["bool", "int"]),
    ],
)
def test_bad_masks_are_400_with_a_sentence(
    several: Running, mask: dict[str, Any], named: list[str]
) -> None:
    response = ask(several, json_body(ONE, mask), "/v2/models/masked/infer")
    assert_error(response, 400, "inputs.action_mask", *named)


def test_a_byte_of_a_mask_is_0_or_1(several: Running) -> None:
    described_mask = MASK | {"parameters": {"binary_data_size": 2}}
    del described_mask["data"]
    body = behind({"inputs": [ONE, described_mask]}, b"\x01\x02")
    assert_error(ask(several, body, "/v2/models/masked/infer"), 400, "0 and 1, found 2")


def test_thousands_of_spoiled_bodies_break_nothing(several: Running) -> None:
    rng = np.random.default_rng(5)
    whole = binary_body(
        tensor([LEFT, RIGHT]), parameters={"binary_data_output": True, "timeout": 9}
    )
    statuses = set()
    with several.connect() as connection:
        for _ in range(2000):
            content, length = bytearray(whole.content), int(whole.headers[LENGTH])
            for _ in range(rng.integers(1, 4)):
                at = int(rng.integers(len(content)))
                match rng.integers(3):
                    case 0:
                        content[at] = rng.integers(256)
                    case 1:
                        del content[at : at + int(rng.integers(1, 9))]
                    case _:
                        content[at:at] = rng.bytes(3)
            length += int(rng.integers(-1, 2))
            connection.send(post(INFER, bytes(content), f"{LENGTH}: {length}"))
            status, headers, body = connection.answer()
            statuses.add(status)
            if status == 200:
                response = httpx.Response(status, headers=headers, content=body)
                assert np.isfinite(read(response).arrays["q_values"]).all()
            else:
                assert isinstance(msgspec.json.decode(body)["error"], str)
    assert statuses <= {200, 400}
    assert statuses == {200, 400}
