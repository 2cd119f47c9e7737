import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.service.running import Running

LEFT, RIGHT = [0.0, 0.0, -0.1, 0.0], [0.0, 0.0, 0.1, 0.0]
"""The linear policy pushes to the side the pole falls to: 0 and 1."""


def test_actions_come_in_the_order_of_the_observations(service: Running) -> None:
    answer = service.act([RIGHT, LEFT, LEFT, RIGHT, LEFT]).json()
    assert answer["actions"] == [1, 0, 0, 1, 0]
    assert answer["propensities"] == [1.0] * 5
    assert answer["answered_by"] == [
        {"version": 1, "variant": "stable", "source": "model", "reason": None}
    ]
    assert "answered_by_index" not in answer
    assert "q_values" not in answer


def test_q_values_are_those_of_the_graph_where_asked_for(service: Running) -> None:
    answer = service.act([[9.0, 9.0, 0.5, 0.25]], include_q_values=True).json()
    np.testing.assert_allclose(answer["q_values"], [[-1.73, 1.76]], rtol=1e-6)


def test_decision_ids_are_the_callers_or_new_each_time(service: Running) -> None:
    assert service.act([LEFT], decision_id="mine").json()["decision_id"] == "mine"
    made = {service.act([LEFT]).json()["decision_id"] for _ in range(5)}
    assert len(made) == 5


def test_message_pack_is_answered_with_message_pack(service: Running) -> None:
    response = service.client.post(
        "/v1/actions",
        content=msgspec.msgpack.encode({"observations": [RIGHT, LEFT]}),
        headers={"content-type": "application/msgpack"},
    )
    assert response.headers["content-type"] == "application/msgpack"
    assert msgspec.msgpack.decode(response.content)["actions"] == [1, 0]


@pytest.mark.parametrize(
    "content_type", [None, "application/octet-stream", "application/x-www-form-urlencoded"]
)
@pytest.mark.parametrize("has_lane", [True, False])
def test_json_is_read_whatever_its_sender_calls_it(
    service: Running, content_type: str | None, has_lane: bool
) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    client = service.client if has_lane else service.plain
    response = client.post(
        "/v1/actions", content=json.dumps({"observations": [RIGHT]}).encode(), headers=headers
    )
    assert response.json()["actions"] == [1]


def deep(depth: int) -> bytes:
    return b'{"observations": ' + b"[" * depth + b"]" * depth + b"}"


BAD_BODIES: list[tuple[Any, int, str, list[str]]] = [
    # (body, status, code, what the message names)
    ({"observations": [[1, 2, 3]]}, 422, "invalid_observation", ["observations[0]", "[4]", "[3]"]),
    (
        {"observations": [[1, 2, 3, 4], [1, 2, 3]]},
        422,
        "invalid_observation",
        ["observations[1]", "[4]", "[3]"],
    ),
    ({"observations": [1, 2, 3, 4]}, 422, "invalid_observation", ["observations", "array"]),
    (
        {"observations": [[[1, 2, 3, 4]]]},
        422,
        "invalid_observation",
        ["observations", "float", "array"],
    ),
    (
        {"observations": [[1, 2, "three", 4]]},
        422,
        "invalid_observation",
        ["observations", "float", "str", "$[0][2]"],
    ),
    (
        {"observations": [[1, 2, None, 4]]},
        422,
        "invalid_observation",
        ["observations", "float", "null"],
    ),
    ({"observations": "north"}, 422, "invalid_observation", ["observations", "array", "str"]),
    (
        b'{"observations": [[0, 1, 1e39, 0]]}',
        422,
        "invalid_observation",
        ["observations[0, 2]", "finite float32", "inf"],
    ),
    ({"observations": []}, 422, "invalid_observation", ["observations", "at least one", "none"]),
    (
        {"observations": [[0, 0, 0, 0]] * 1025},
        422,
        "invalid_request",
        ["observations", "1024", "1025"],
    ),
    ({}, 422, "invalid_request", ["observations"]),
    ([], 422, "invalid_request", ["object", "array"]),
    (
        {"observations": [RIGHT], "policy": "pong"},
        404,
        "unknown_policy",
        ["policy", "cartpole", "pong"],
    ),
    ({"observations": [RIGHT], "colour": 1}, 422, "invalid_request", ["colour"]),
    ({"observations": [RIGHT], "policy": 7}, 422, "invalid_request", ["$.policy", "str", "int"]),
    (
        {"observations": [RIGHT], "episode_ids": ["a", "b"]},
        422,
        "invalid_request",
        ["episode_ids", "1", "2"],
    ),
    (
        {"observations": [RIGHT, LEFT], "episode_ids": ["a", "b/0"]},
        422,
        "invalid_request",
        ["episode_ids[1]", "'b/0'"],
    ),
    ({"observations": [RIGHT], "steps": [-1]}, 422, "invalid_request", ["$.steps[0]", ">= 0"]),
    ({"observations": [RIGHT], "steps": [2**70]}, 422, "invalid_request", ["$.steps[0]"]),
    ({"observations": [RIGHT], "steps": [0, 1]}, 422, "invalid_request", ["steps", "1", "2"]),
    ({"observations": [RIGHT], "decision_id": "a/b"}, 422, "invalid_request", ["decision_id"]),
    ({"observations": [RIGHT], "decision_id": ""}, 422, "invalid_request", ["decision_id"]),
    ({"observations": [RIGHT], "deadline_ms": 0}, 422, "invalid_request", ["$.deadline_ms", "> 0"]),
    (
        {"observations": [RIGHT], "deadline_ms": 1001},
        422,
        "invalid_request",
        ["deadline_ms", "1000", "1001"],
    ),
    ({"observations": [RIGHT], "on_fallback": "guess"}, 422, "invalid_request", ["on_fallback"]),
    (
        {"observations": [RIGHT], "action_masks": [[True, False]]},
        422,
        "invalid_request",
        ["action_masks", "declares no"],
    ),
    (b"{", 400, "malformed_body", []),
    (b"", 400, "malformed_body", []),
    (b'{"observations": [[0, 0, NaN, 0]]}', 400, "malformed_body", []),
    (b'{"policy": "\xff"}', 400, "malformed_body", []),
    (b'{"policy": "\\ud800"}', 400, "malformed_body", []),
    (deep(100_000), 400, "malformed_body", ["nest"]),
]


@pytest.mark.parametrize(("body", "status", "code", "named"), BAD_BODIES)
def test_bad_input_names_field_found_and_expected(
    service: Running, body: Any, status: int, code: str, named: list[str]
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = service.client.post("/v1/actions", content=content)
    answer = response.json()
    assert (response.status_code, answer["code"]) == (status, code)
    assert answer.keys() == {"error", "code"}
    assert [name for name in named if name not in answer["error"]] == []


@pytest.mark.parametrize(("body", "status", "code", "named"), BAD_BODIES)
def test_the_lane_and_the_route_give_the_same_bytes_for_bad_bodies(
    service: Running, body: Any, status: int, code: str, named: list[str]
) -> None:
    assert_same_answer(service, body)


@pytest.mark.parametrize(
    "body",
    [
        {"observations": [RIGHT], "decision_id": "a"},
        {"observations": [RIGHT, LEFT], "decision_id": "é" * 3, "include_q_values": True},
        {"observations": [LEFT] * 1024, "decision_id": "b", "steps": list(range(1024))},
        {"observations": [LEFT], "decision_id": "c", "policy": "cartpole", "on_fallback": "error"},
        {"observations": [LEFT], "decision_id": "d", "deadline_ms": 0.001},
    ],
)
def test_the_lane_and_the_route_give_the_same_bytes_for_good_bodies(
    service: Running, body: dict[str, Any]
) -> None:
    assert assert_same_answer(service, body) == 200


def assert_same_answer(service: Running, body: Any) -> int:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    through_lane, through_route = (
        client.post("/v1/actions", content=content) for client in (service.client, service.plain)
    )
    assert through_lane.content == through_route.content
    assert through_lane.status_code == through_route.status_code
    ignored = {"date", "server"}
    headers = [
        {name: value for name, value in response.headers.items() if name not in ignored}
        for response in (through_lane, through_route)
    ]
    assert headers[0] == headers[1]
    return through_lane.status_code


@pytest.mark.parametrize(
    "fields",
    [
        {"observations": [[0.0, math.nan, 0.0, 0.0]]},
        {"observations": [[0.0, -math.inf, 0.0, 0.0]]},
        {"observations": [RIGHT], "deadline_ms": math.nan},
    ],
)
def test_what_json_cannot_say_is_refused_in_message_pack_too(
    service: Running, fields: dict[str, Any]
) -> None:
    response = service.client.post(
        "/v1/actions",
        content=msgspec.msgpack.encode(fields),
        headers={"content-type": "application/msgpack"},
    )
    assert response.status_code == 422
    assert next(reversed(fields)) in response.json()["error"]


@pytest.mark.parametrize("has_lane", [True, False])
@pytest.mark.parametrize("path", ["/v1/actions", "/v1/policies/cartpole/promote"])
def test_a_body_over_the_limit_is_refused_by_its_declared_length_and_while_it_streams(
    service: Running, has_lane: bool, path: str
) -> None:
    client = service.client if has_lane else service.plain
    limit = service.server.settings.body_max_bytes
    declared = client.post(path, content=b" " * (limit + 1))
    streamed = client.post(path, content=(b" " * 65536 for _ in range(limit // 65536 + 1)))
    for response in (declared, streamed):
        assert response.status_code == 413
        assert response.json()["code"] == "payload_too_large"
        assert str(limit) in response.json()["error"]


def test_a_body_at_the_limit_is_read(service: Running) -> None:
    limit = service.server.settings.body_max_bytes
    body = json.dumps({"observations": [RIGHT]}).encode()
    response = service.client.post("/v1/actions", content=body + b" " * (limit - len(body)))
    assert response.json()["actions"] == [1]
