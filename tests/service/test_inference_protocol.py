"""Infer, byte by byte: what `tritonclient` and KServe's client send, and what nobody should."""

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.records import DecisionBatch, decode_record
from contract.segments import read_records
from tests import builders
from tests.service.running import Running, post, running, settings_for
from tests.service.wire import (
    DTYPES,
    INFER,
    LEFT,
    LENGTH,
    PIXEL_WEIGHTS,
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


def test_the_conversation_of_triton_s_client_byte_by_byte(several: Running) -> None:
    # Captured from tritonclient.http 2.73: no Content-Type, no Accept-Encoding, no outputs.
    document = (
        b'{"inputs":[{"name":"observations","shape":[2,4],"datatype":"FP32",'
        b'"parameters":{"binary_data_size":32}}],"parameters":{"binary_data_output":true}}'
    )
    blob = bytes.fromhex("0000000000000000cdccccbd00000000" + "0000000000000000cdcccc3d00000000")
    request = (
        b"POST /v2/models/cartpole/infer HTTP/1.1\r\n"
        b"User-Agent: python/gevent-http-client-2.6.1\r\n"
        b"Inference-Header-Content-Length: 146\r\nHost: 127.0.0.1:43255\r\n"
        b"Content-Length: 178\r\n\r\n"
    )
    with several.connect() as connection:
        connection.send(request + document + blob)
        status, headers, body = connection.answer()
    assert status == 200
    assert headers["content-type"] == "application/octet-stream"
    length = int(headers[LENGTH])
    answer, rest = json.loads(body[:length]), body[length:]
    assert answer["model_name"] == "cartpole"
    assert answer["model_version"] == "1"
    assert answer["outputs"] == [
        {
            "name": "actions",
            "datatype": "INT64",
            "shape": [2],
            "parameters": {"binary_data_size": 16},
        },
        {
            "name": "q_values",
            "datatype": "FP32",
            "shape": [2, 2],
            "parameters": {"binary_data_size": 16},
        },
    ]
    assert rest[:16] == bytes([0] * 8 + [1] + [0] * 7)
    q_values = np.frombuffer(rest[16:], "<f4").reshape(2, 2)
    np.testing.assert_allclose(q_values, [[0.32, -0.29], [-0.28, 0.31]], rtol=1e-6)


def test_json_goes_in_and_comes_out_where_nothing_binary_is_asked_for(several: Running) -> None:
    answer = read(ask(several, json_body(tensor([RIGHT, LEFT, LEFT]))))
    assert answer.arrays["actions"].tolist() == [1, 0, 0]
    assert answer.arrays["q_values"].shape == (3, 2)
    assert [output["name"] for output in answer.document["outputs"]] == ["actions", "q_values"]


@pytest.mark.parametrize(
    "content_type", [None, "application/octet-stream", "application/json", "text/plain"]
)
@pytest.mark.parametrize("is_binary", [True, False])
@pytest.mark.parametrize("has_lane", [True, False])
def test_the_content_type_says_nothing(
    several: Running, content_type: str | None, is_binary: bool, has_lane: bool
) -> None:
    body = (binary_body if is_binary else json_body)(tensor([RIGHT]))
    headers = body.headers | ({} if content_type is None else {"content-type": content_type})
    client = several.client if has_lane else several.plain
    answer = read(client.post(INFER, content=body.content, headers=headers))
    assert answer.arrays["actions"].tolist() == [1]


def test_nested_and_flat_numbers_are_the_same_tensor(several: Running) -> None:
    observations = [[0.0, 0.0, 0.5, 0.25], [0.0, 0.0, -2.0, 1.0]]
    flat, nested = (
        read(ask(several, json_body(each)))
        for each in (tensor(observations), tensor(observations, data=observations))
    )
    np.testing.assert_array_equal(flat.arrays["q_values"], nested.arrays["q_values"])
    np.testing.assert_allclose(nested.arrays["q_values"], [[-1.73, 1.76], [5.02, -4.99]], rtol=1e-6)


@pytest.mark.parametrize(
    ("by_default", "first", "second"),
    [(False, True, None), (True, None, False), (True, False, True), (False, False, True)],
)
def test_each_output_is_bytes_or_json_as_it_says_or_as_the_request_does(
    several: Running, by_default: bool, first: bool | None, second: bool | None
) -> None:
    def wanted(name: str, binary: bool | None) -> dict[str, Any]:
        return (
            {"name": name}
            if binary is None
            else {"name": name, "parameters": {"binary_data": binary}}
        )

    body = binary_body(
        tensor([RIGHT, LEFT]),
        parameters={"binary_data_output": by_default},
        outputs=[wanted("q_values", first), wanted("actions", second)],
    )
    answer = read(ask(several, body))
    found = {each["name"]: "data" not in each for each in answer.document["outputs"]}
    assert list(found) == ["q_values", "actions"]
    assert found == {
        "q_values": by_default if first is None else first,
        "actions": by_default if second is None else second,
    }
    assert answer.arrays["actions"].tolist() == [1, 0]


def test_binary_and_json_inputs_share_one_message(several: Running) -> None:
    observations = tensor([LEFT, LEFT])
    mask = np.array([[False, True], [True, True]]).tobytes()
    described = tensor([[True, True]] * 2, "BOOL", "action_mask") | {
        "parameters": {"binary_data_size": 4}
    }
    del described["data"]
    body = behind({"inputs": [described, observations]}, mask)
    answer = read(ask(several, body, "/v2/models/masked/infer"))
    assert answer.arrays["actions"].tolist() == [1, 0]


def test_blobs_are_taken_in_the_order_of_the_inputs(several: Running) -> None:
    # Swapped, the mask's four bytes would be read as numbers, and the numbers as a mask.
    body = binary_body(
        tensor([[False, True], [True, False]], "BOOL", "action_mask"),
        tensor([LEFT, RIGHT]),
        parameters=BOTH_BINARY,
    )
    answer = read(ask(several, body, "/v2/models/masked/infer"))
    assert answer.arrays["actions"].tolist() == [1, 0]
    q_values = answer.arrays["q_values"]
    np.testing.assert_allclose(q_values, [[0.32, -0.29], [-0.28, 0.31]], rtol=1e-6)


def test_a_masked_policy_answers_without_a_mask(several: Running) -> None:
    answer = read(ask(several, json_body(tensor([LEFT])), "/v2/models/masked/infer"))
    assert answer.arrays["actions"].tolist() == [0]


def test_an_id_comes_back_verbatim_and_is_made_where_there_is_none(several: Running) -> None:
    odd = 'é/\\"\u2028 1'
    assert read(ask(several, json_body(tensor([LEFT]), id=odd))).document["id"] == odd
    assert read(ask(several, json_body(tensor([LEFT]), id=""))).document["id"] == ""
    made = {read(ask(several, json_body(tensor([LEFT])))).document["id"] for _ in range(3)}
    assert len(made) == 3


def test_the_json_s_length_counts_bytes_and_not_characters(several: Running) -> None:
    # "é" is two bytes in UTF-8: a length in characters would cut into the numbers.
    document = '{"id":"ééé","inputs":[{"name":"observations","shape":[1,4],"datatype":"FP32",'
    document += '"parameters":{"binary_data_size":16}}],"parameters":{"binary_data_output":true}}'
    content = document.encode()
    blob = np.array(RIGHT, "<f4").tobytes()
    body = Body(content + blob, {LENGTH: str(len(content))})
    answer = read(ask(several, body))
    assert answer.document["id"] == "ééé"
    assert answer.arrays["actions"].tolist() == [1]


@pytest.mark.parametrize("datatype", ["FP64", "FP16"])
def test_floats_of_another_width_are_converted(several: Running, datatype: str) -> None:
    # 0.1 as FP64 is eight other bytes than as FP32.
    body = binary_body(tensor([LEFT, RIGHT, LEFT], datatype))
    answer = read(ask(several, body))
    assert answer.arrays["actions"].tolist() == [0, 1, 0]
    expected = -3 * np.array([0.1], dtype=DTYPES[datatype]).astype(np.float32) + 0.02
    np.testing.assert_allclose(answer.arrays["q_values"][1, :1], expected, rtol=1e-6)


@pytest.mark.parametrize("encode", [json_body, binary_body])
@pytest.mark.parametrize("datatype", ["UINT8", "INT32", "INT64", "UINT64"])
def test_whole_numbers_of_another_width_are_converted_where_they_fit(
    several: Running, encode: Any, datatype: str
) -> None:
    frames = [[[200, 7, 0], [1, 2, 3]], [[255, 255, 255], [0, 0, 1]]]
    answer = read(ask(several, encode(tensor(frames, datatype)), "/v2/models/pixels/infer"))
    expected = np.reshape(frames, (2, 6)) @ np.array(PIXEL_WEIGHTS).T + builders.BIAS
    np.testing.assert_allclose(answer.arrays["q_values"], expected, rtol=1e-6)


@pytest.mark.parametrize("encode", [json_body, binary_body])
def test_a_whole_number_that_does_not_fit_is_refused_and_not_wrapped(
    several: Running, encode: Any
) -> None:
    # 256 wraps to 0, which would be a valid pixel.
    body = encode(tensor([[[256, 0, 0], [0, 0, 0]]], "INT32"))
    response = ask(several, body, "/v2/models/pixels/infer")
    assert_error(response, 400, "outside UINT8, 0 to 255")


def test_a_body_without_json_is_the_bytes_of_one_observation(several: Running) -> None:
    body = Body(np.array(RIGHT, "<f4").tobytes(), {LENGTH: "0"})
    answer = read(ask(several, body))
    assert answer.arrays["actions"].tolist() == [1]
    assert all("data" not in output for output in answer.document["outputs"])
    two = Body(body.content * 2, body.headers)
    assert_error(ask(several, two), 400, "16 bytes, found 32")


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_compressed_bodies_are_read_and_their_length_counts_what_was_compressed(
    several: Running, name: str
) -> None:
    body = binary_body(tensor([RIGHT, LEFT]), parameters=BOTH_BINARY)
    compress = gzip.compress if name == "gzip" else zlib.compress
    content = compress(body.content)
    assert len(content) != len(body.content)
    response = ask(several, Body(content, body.headers), **{"content-encoding": name})
    assert read(response).arrays["actions"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("accepted", "found"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("br, gzip;q=0.5", "gzip"),
        ("GZIP", "gzip"),
        ("gzip;q=0, deflate", "deflate"),
        ("gzip; q=0.000", None),
        ("br", None),
        ("identity", None),
    ],
)
def test_a_large_answer_is_compressed_only_as_its_reader_accepts(
    several: Running, accepted: str, found: str | None
) -> None:
    body = binary_body(tensor([RIGHT, LEFT] * 100), parameters=BOTH_BINARY)
    response = ask(several, body, **{"accept-encoding": accepted})
    assert response.headers.get("content-encoding") == found
    # httpx has undone it: the length is that of the plain JSON.
    assert read(response).arrays["actions"].tolist() == [1, 0] * 100
    assert (int(response.headers["content-length"]) < 1000) == (found is not None)


def test_a_small_answer_is_not_compressed(several: Running) -> None:
    response = ask(several, json_body(tensor([LEFT])), **{"accept-encoding": "gzip"})
    assert "content-encoding" not in response.headers


def test_only_the_version_that_serves_answers_by_number(several: Running) -> None:
    answer = read(ask(several, json_body(ONE), "/v2/models/cartpole/versions/1/infer"))
    assert answer.document["model_version"] == "1"
    for version in ("2", "01", "stable"):
        response = ask(several, json_body(ONE), f"/v2/models/cartpole/versions/{version}/infer")
        assert_error(response, 404, "cartpole serves 1", repr(version))


def test_a_quoted_name_is_that_model_and_an_unknown_one_is_404(several: Running) -> None:
    with several.connect() as connection:
        connection.send(post("/v2/models/cart%70ole/infer", json_body(ONE).content))
        status, _, body = connection.answer()
    assert (status, json.loads(body)["model_name"]) == (200, "cartpole")
    assert_error(ask(several, json_body(ONE), "/v2/models/pong/infer"), 404, "'pong'")
    assert_error(several.client.get(INFER), 405)


def test_a_policy_without_a_version_is_answered_by_its_heuristic(several: Running) -> None:
    answer = read(ask(several, json_body(tensor([LEFT])), "/v2/models/unpromoted/infer"))
    assert answer.arrays["actions"].tolist() == [1]
    assert "model_version" not in answer.document
    parameters = answer.parameters
    assert (parameters["source"], parameters["reason"]) == ("heuristic", "no_model")
    assert (parameters["version"], parameters["variant"]) == ("none", "stable")


@pytest.mark.parametrize("parameters", [{}, BOTH_BINARY])
def test_a_row_that_the_model_did_not_answer_has_finite_values_whose_largest_is_its_action(
    several: Running, parameters: dict[str, Any]
) -> None:
    rows = [[4.0, 9.0, 0.0, 0.0], [-1.0, 9.0, 0.0, 0.0], [16.0, 1.0, 0.0, 0.0]]
    answer = read(
        ask(several, json_body(tensor(rows), parameters=parameters), "/v2/models/root/infer")
    )
    assert answer.arrays["actions"].tolist() == [1, 1, 0]
    assert answer.arrays["q_values"].tolist() == [[2.0, 3.0], [-1.0, 0.0], [4.0, 1.0]]
    assert answer.parameters["source"] == "model,heuristic,model"
    assert answer.parameters["reason"] == "none,non_finite,none"
    assert answer.parameters["version"] == "1,1,1"
    assert answer.document["model_version"] == "1"


def test_who_chose_is_one_word_where_it_fits_all_rows(several: Running) -> None:
    parameters = read(ask(several, json_body(tensor([LEFT, RIGHT])))).parameters
    assert parameters.pop("decision_id")
    assert parameters == {"source": "model", "reason": "none", "variant": "stable", "version": "1"}


def test_a_caller_that_wants_no_guess_is_refused_one(several: Running) -> None:
    body = json_body(ONE, parameters={"on_fallback": "error"})
    assert_error(ask(several, body, "/v2/models/unpromoted/infer"), 424, "no_model")
    assert read(ask(several, body))


def test_unknown_and_reserved_parameters_are_passed_over(several: Running) -> None:
    parameters = {
        "sequence_id": 7,
        "sequence_start": True,
        "sequence_end": False,
        "priority": 1,
        "explore": "never",
        "headers": {"x": 1},
        "triton_final_response": True,
    }
    body = json_body(ONE | {"colour": 1}, parameters=parameters, verbose=[1])
    assert read(ask(several, body)).arrays["actions"].tolist() == [1]


def test_a_timeout_is_a_deadline_in_microseconds(several: Running) -> None:
    # Half a millisecond is less than the margin that a deadline keeps.
    late = read(ask(several, json_body(tensor([LEFT]), parameters={"timeout": 500})))
    assert late.parameters["reason"] == "deadline"
    for timeout in (0, 500_000, 3_600_000_000):
        answer = read(ask(several, json_body(tensor([LEFT]), parameters={"timeout": timeout})))
        assert answer.parameters["source"] == "model", timeout


def test_the_episode_and_step_of_a_row_reach_the_log(tmp_path: Path) -> None:
    builders.write_policy(tmp_path / "policies")
    with running(settings_for(tmp_path)) as service:
        parameters = {"episode_id": "episode-9", "step": 17, "decision_id": "mine"}
        answer = read(ask(service, json_body(tensor([LEFT]), id="r1", parameters=parameters)))
        folder = service.server.spool.folder
    assert answer.document["id"] == "r1"
    assert answer.parameters["decision_id"] == "mine"
    records = [decode_record(content) for _, content in read_records(folder)]
    batch = next(record for record in records if isinstance(record, DecisionBatch))
    assert (batch.decision_ids, batch.episode_ids, batch.steps) == (["mine"], ["episode-9"], [17])
    np.testing.assert_array_equal(batch.observations.array(), np.array([LEFT], np.float32))


def test_the_lane_and_the_route_give_the_same_bytes(several: Running) -> None:
    for body in (
        json_body(ONE, id="a", parameters={"decision_id": "a"}),
        binary_body(ONE, id="b", parameters={"decision_id": "a", "binary_data_output": True}),
        binary_body(tensor([LEFT] * 99), id="c", parameters={"decision_id": "a"}),
        json_body(),
        behind({"inputs": [ONE]}, b"x"),
    ):
        answers = [
            client.post(INFER, content=body.content, headers=body.headers)
            for client in (several.client, several.plain)
        ]
        assert answers[0].content == answers[1].content
        assert answers[0].status_code == answers[1].status_code
        headers = [
            {name: value for name, value in each.headers.items() if name not in ("date", "server")}
            for each in answers
        ]
        assert headers[0] == headers[1]
