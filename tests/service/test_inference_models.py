"""Health, metadata, configuration, statistics, and the repository that loads and unloads."""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from contract.ledger import LEDGER_FILE, FileLedger
from tests import builders
from tests.service.running import Running, promote, running, settings_for
from tests.service.wire import LEFT, ask, assert_error, json_body, read, tensor


def get(service: Running, path: str) -> Any:
    response = service.client.get(path)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


def test_the_server_is_live_ready_and_says_what_it_can_do(several: Running) -> None:
    assert get(several, "/v2/health/live") == {"live": True}
    assert get(several, "/v2/health/ready")["ready"] is True
    told = get(several, "/v2")
    assert told["name"] == "dqn-serving"
    assert set(told["extensions"]) == {
        "binary_tensor_data",
        "model_configuration",
        "model_repository",
        "parameters",
        "statistics",
    }
    names = ["cartpole", "masked", "pixels", "root", "unpromoted"]
    assert get(several, "/v2/models") == {"models": names}


def test_a_server_without_a_policy_is_live_and_not_ready(tmp_path: Path) -> None:
    with running(settings_for(tmp_path)) as service:
        assert get(service, "/v2/health/live") == {"live": True}
        response = service.client.get("/v2/health/ready")
        assert get(service, "/v2/models/stats") == {"model_stats": []}
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/json"
    assert response.json()["ready"] is False
    assert "no policy" in response.json()["error"]


@pytest.mark.parametrize("path", ["/v2/models/masked", "/v2/models/masked/versions/1"])
def test_metadata_names_the_tensors_with_an_open_batch_axis(several: Running, path: str) -> None:
    assert get(several, path) == {
        "name": "masked",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "observations", "datatype": "FP32", "shape": [-1, 4]},
            {"name": "action_mask", "datatype": "BOOL", "shape": [-1, 2]},
        ],
        "outputs": [
            {"name": "actions", "datatype": "INT64", "shape": [-1]},
            {"name": "q_values", "datatype": "FP32", "shape": [-1, 2]},
        ],
    }


def test_frames_of_bytes_are_described_as_bytes(several: Running) -> None:
    (only,) = get(several, "/v2/models/pixels")["inputs"]
    assert only == {"name": "observations", "datatype": "UINT8", "shape": [-1, 2, 3]}


@pytest.mark.parametrize("path", ["/v2/models/masked", "/v2/models/masked/versions/1"])
def test_the_configuration_is_worded_as_triton_s(several: Running, path: str) -> None:
    told = get(several, f"{path}/config")
    assert told["max_batch_size"] == several.server.settings.rows_max
    assert told["input"] == [
        {"name": "observations", "data_type": "TYPE_FP32", "dims": [4], "optional": False},
        {"name": "action_mask", "data_type": "TYPE_BOOL", "dims": [2], "optional": True},
    ]
    assert told["output"] == [
        {"name": "actions", "data_type": "TYPE_INT64", "dims": [1], "reshape": {"shape": []}},
        {"name": "q_values", "data_type": "TYPE_FP32", "dims": [2]},
    ]


@pytest.mark.parametrize("suffix", ["", "/ready", "/config", "/stats"])
def test_another_version_and_another_model_are_404_with_a_sentence(
    several: Running, suffix: str
) -> None:
    assert_error(several.client.get(f"/v2/models/masked/versions/2{suffix}"), 404, "serves 1", "2")
    assert_error(several.client.get(f"/v2/models/pong{suffix}"), 404, "'pong'")


def test_a_model_is_ready_only_while_it_answers_itself(several: Running) -> None:
    assert get(several, "/v2/models/masked/ready") == {"name": "masked", "ready": True}
    assert get(several, "/v2/models/masked/versions/1/ready")["ready"] is True
    response = several.client.get("/v2/models/unpromoted/ready")
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/json"
    told = response.json()
    assert told["ready"] is False
    assert "promoted" in told["error"]
    assert get(several, "/v2/models/unpromoted")["versions"] == []


def test_statistics_count_rows_calls_and_requests(several: Running) -> None:
    def told() -> Any:
        (only,) = get(several, "/v2/models/masked/versions/1/stats")["model_stats"]
        return only

    before = told()
    for rows in (1, 2, 4):
        read(ask(several, json_body(tensor([LEFT] * rows)), "/v2/models/masked/infer"))
    after = told()
    assert (after["name"], after["version"]) == ("masked", "1")
    # Rows, calls of the model, requests: 7, 3, 3.
    assert after["inference_count"] - before["inference_count"] == 7
    assert after["execution_count"] - before["execution_count"] == 3
    for name in ("success", "queue", "compute_infer"):
        first, last = before["inference_stats"][name], after["inference_stats"][name]
        assert last["count"] - first["count"] == 3, name
        assert last["ns"] > first["ns"], name
    assert after["inference_stats"]["fail"]["count"] == 0
    names = [each["name"] for each in get(several, "/v2/models/stats")["model_stats"]]
    assert names == ["cartpole", "masked", "pixels", "root", "unpromoted"]


def test_what_is_not_served_is_404_as_json(several: Running) -> None:
    for path in ("/v2/logging", "/v2/trace/setting", "/v2/systemsharedmemory/status"):
        assert_error(several.client.get(path), 404)
    assert_error(several.client.delete("/v2/models/masked"), 405)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"ready": false}'])
def test_the_index_lists_every_version_also_without_a_body(
    several: Running, content: bytes
) -> None:
    response = several.client.post("/v2/repository/index", content=content)
    assert response.status_code == 200
    found = {each["name"]: each for each in response.json()}
    assert found["masked"] == {"name": "masked", "version": "1", "state": "READY", "reason": ""}
    assert found["unpromoted"]["state"] == "UNAVAILABLE"
    assert "promoted" in found["unpromoted"]["reason"]


def test_the_index_lists_only_what_is_ready_where_asked_to(several: Running) -> None:
    response = several.client.post("/v2/repository/index", content=b'{"ready": true}')
    assert [each["name"] for each in response.json()] == ["cartpole", "masked", "pixels", "root"]
    assert_error(several.client.post("/v2/repository/index", content=b'{"ready": 1}'), 400, "ready")
    assert_error(several.client.post("/v2/repository/index", content=b"\xff"), 400)


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[Running]:
    """A service whose `cartpole` may be loaded and unloaded; version 2 waits in the repository."""
    builders.write_policy(tmp_path / "policies")
    builders.write_policy(tmp_path / "policies", version=2)
    promote(tmp_path)
    with running(settings_for(tmp_path)) as started:
        yield started


def repository(service: Running, verb: str, content: bytes = b"") -> httpx.Response:
    return service.client.post(f"/v2/repository/models/cartpole/{verb}", content=content)


def actions_of(service: Running) -> Any:
    return read(ask(service, json_body(tensor([LEFT])))).arrays["actions"].tolist()


def test_an_unloaded_model_s_requests_are_answered_until_it_is_loaded_again(
    changing: Running,
) -> None:
    # What tritonclient sends.
    unload = b'{"parameters":{"unload_dependents":false}}'
    assert actions_of(changing) == [0]
    for content in (unload, b""):
        response = repository(changing, "unload", content)
        assert (response.status_code, response.content) == (200, b"")
    assert changing.client.get("/v2/models/cartpole/ready").status_code == 503
    states = {each["version"]: each for each in changing.client.post("/v2/repository/index").json()}
    assert {each["state"] for each in states.values()} == {"UNAVAILABLE"}
    assert actions_of(changing) == [1]
    for content in (b"{}", b""):
        response = repository(changing, "load", content)
        assert (response.status_code, response.content) == (200, b"")
    assert changing.client.get("/v2/models/cartpole/ready").status_code == 200
    assert actions_of(changing) == [0]
    entries = FileLedger(changing.server.settings.policies / LEDGER_FILE).read_after(0)
    changes = [each.action for each in entries if each.action in ("pin", "unpin")]
    assert changes == ["pin", "unpin"]


def test_the_versions_that_do_not_serve_are_unavailable(changing: Running) -> None:
    states = {each["version"]: each for each in changing.client.post("/v2/repository/index").json()}
    assert states["1"]["state"] == "READY"
    assert states["2"]["state"] == "UNAVAILABLE"
    assert states["2"]["reason"]


def test_load_lifts_no_pin_that_an_operator_made(changing: Running) -> None:
    body = {"why": "it drives backwards"}
    changing.client.post("/v1/policies/cartpole/pin", json=body)
    repository(changing, "unload")
    assert_error(repository(changing, "load"), 409, "it drives backwards", "unpin")
    assert actions_of(changing) == [1]


def test_load_brings_what_was_promoted_and_fails_where_it_does_not_load(
    changing: Running,
) -> None:
    data = changing.server.settings.data
    promote(data, version=2)
    assert repository(changing, "load").status_code == 200
    assert changing.client.get("/v2/models/cartpole/versions/2/ready").status_code == 200
    promote(data, version=3)
    assert_error(repository(changing, "load"), 409, "version 3 does not load")
    answer = read(ask(changing, json_body(tensor([LEFT]))))
    assert answer.document["model_version"] == "2"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (json.dumps({"parameters": {"config": "{}"}}).encode(), "'config'"),
        (json.dumps({"parameters": {"file:1/model.onnx": "AA=="}}).encode(), "'file:1/model.onnx'"),
        (b"{", ""),
        (b"[]", ""),
    ],
)
def test_load_takes_no_model_from_its_caller(several: Running, content: bytes, named: str) -> None:
    response = several.client.post("/v2/repository/models/masked/load", content=content)
    assert_error(response, 400, named)


def test_an_unknown_model_is_neither_loaded_nor_unloaded(several: Running) -> None:
    for verb in ("load", "unload"):
        response = several.client.post(f"/v2/repository/models/pong/{verb}", content=b"{}")
        assert_error(response, 404, "'pong'")


def test_each_call_needs_its_scope_and_a_probe_none(tmp_path: Path) -> None:
    builders.write_policy(tmp_path / "policies")
    keys = tmp_path / "keys"
    lines = [f"{scope} {scope} {sha256(scope.encode()).hexdigest()}" for scope in SCOPES]
    keys.write_text("\n".join(lines), encoding="utf-8")
    calls = {
        ("GET", "/v2/health/live"): set(SCOPES),
        ("GET", "/v2/health/ready"): set(SCOPES),
        ("GET", "/v2"): {"act", "read"},
        ("GET", "/v2/models/cartpole"): {"act", "read"},
        ("GET", "/v2/models/cartpole/config"): {"act", "read"},
        ("GET", "/v2/models/stats"): {"act", "read"},
        ("POST", "/v2/repository/index"): {"act", "read"},
        ("POST", "/v2/repository/models/cartpole/unload"): {"operate"},
        ("POST", "/v2/models/cartpole/infer"): {"act"},
        ("POST", "/v2/models/cartpole/versions/1/infer"): {"act"},
    }
    with running(settings_for(tmp_path, keys_file=keys)) as service:
        for (method, path), scopes in calls.items():
            for scope in SCOPES:
                headers = {"authorization": f"Bearer {scope}"}
                status = service.client.request(method, path, headers=headers).status_code
                assert (status not in (401, 403)) == (scope in scopes), (path, scope, status)
            without = service.client.request(method, path)
            assert (without.status_code == 401) == ("report" not in scopes), path


SCOPES = ("act", "report", "read", "operate")
