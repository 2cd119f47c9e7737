"""The real clients, unchanged, against a real server process."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests import builders
from tests.service import clients
from tests.service.running import promote

pytestmark = pytest.mark.slow

Q_VALUES = [[0.32, -0.29], [-0.28, 0.31]]
"""Of an observation that falls left, and of one that falls right."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    clients.install()
    data = tmp_path_factory.mktemp("clients")
    builders.write_policy(data / "policies")
    promote(data)
    with clients.served(data) as found:
        yield found


@pytest.fixture(scope="module")
def triton(address: str) -> dict[str, Any]:
    return clients.converse("triton_conversation.py", address)


def test_triton_s_client_finds_the_server_and_the_model(triton: dict[str, Any]) -> None:
    found = triton["sync"]
    for name in ("live", "ready", "model_ready", "version_ready"):
        assert found[name] is True, name
    assert found["other_version_ready"] is False
    assert "binary_tensor_data" in found["server_metadata"]["extensions"]
    assert found["metadata"]["inputs"] == [
        {"name": "observations", "datatype": "FP32", "shape": [-1, 4]}
    ]
    assert found["config"]["input"][0]["data_type"] == "TYPE_FP32"
    assert found["index"] == [{"name": "cartpole", "version": "1", "state": "READY", "reason": ""}]
    assert found["unknown_metadata"]["status"] == "404"
    assert found["trace"]["status"] == "404"


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_triton_s_clients_get_the_policy_s_actions(triton: dict[str, Any], kind: str) -> None:
    found = triton[kind]
    for name in ("binary", "json", "mixed", "sequence", "version", "double"):
        answer = found[name]
        assert answer["actions"] == [0, 1], name
        np.testing.assert_allclose(answer["q_values"], Q_VALUES, rtol=1e-6)
        assert answer["response"]["model_version"] == "1"
        assert answer["response"]["parameters"]["source"] == "model"
    for name in ("gzip", "deflate"):
        assert found[name]["actions"] == [0, 1] * 100, name
        np.testing.assert_allclose(found[name]["q_values"], Q_VALUES * 100, rtol=1e-6)
    assert found["only_actions"]["actions"] == [0, 1]
    assert found["only_actions"]["q_values"] is None
    assert found["parameters"]["actions"] == [1]
    assert found["parameters"]["response"]["id"] == "r/1 é"


@pytest.mark.parametrize("kind", ["sync", "aio"])
@pytest.mark.parametrize(
    ("name", "status", "named"),
    [
        ("unknown_model", "404", "'pong'"),
        ("unknown_version", "404", "serves 1"),
        ("bad_shape", "400", "shape [-1, 4]"),
        ("bad_number", "400", "finite FP32"),
        ("unknown_output", "400", "'values'"),
    ],
)
def test_triton_s_clients_can_say_what_went_wrong(
    triton: dict[str, Any], kind: str, name: str, status: str, named: str
) -> None:
    found = triton[kind][name]
    assert found["status"] == status
    assert named in found["error"]


def test_triton_s_client_unloads_loads_and_is_answered_all_the_time(
    triton: dict[str, Any],
) -> None:
    found = triton["sync"]
    assert found["asynchronous"]["actions"] == [1]
    assert found["unload"] is None
    assert found["unloaded_ready"] is False
    assert found["unloaded_index"][0]["state"] == "UNAVAILABLE"
    # The heuristic's action; the model's is 0.
    assert found["heuristic"]["actions"] == [1]
    assert found["heuristic"]["q_values"] == [[-1.0, 0.0]]
    assert found["heuristic"]["response"]["parameters"]["reason"] == "pinned"
    assert found["load"] is None
    assert found["loaded_ready"] is True
    assert found["load_with_config"]["status"] == "400"
    assert found["load_unknown"]["status"] == "404"


def test_triton_s_asynchronous_client_asks_all_that_the_other_does(triton: dict[str, Any]) -> None:
    found = triton["aio"]
    for name in ("live", "ready", "model_ready"):
        assert found[name] is True, name
    assert found["metadata"] == triton["sync"]["metadata"]
    assert found["config"] == triton["sync"]["config"]
    assert found["index"] == triton["sync"]["index"]
    assert found["unloaded_ready"] is False


def test_triton_s_client_reads_statistics_that_count_its_rows(triton: dict[str, Any]) -> None:
    (only,) = triton["sync"]["statistics"]["model_stats"]
    # binary, json, mixed, only_actions, sequence, version, double: 2 rows each; gzip and deflate
    # 200 each; parameters and asynchronous 1 each.
    assert only["inference_count"] == 7 * 2 + 2 * 200 + 2
    assert only["inference_stats"]["success"]["count"] == 11
    assert triton["sync"]["all_statistics"]["model_stats"] == [only]


def test_kserve_s_client_gets_the_policy_s_actions_and_every_error(address: str) -> None:
    found = clients.converse("kserve_conversation.py", address)
    assert [found[name] for name in ("live", "ready", "model_ready", "unknown_ready")] == [
        True,
        True,
        True,
        False,
    ]
    assert found["json"]["actions"] == [0, 1]
    np.testing.assert_allclose(found["json"]["q_values"], Q_VALUES, rtol=1e-6)
    assert found["json"]["id"] == "r1"
    assert found["json"]["parameters"]["source"] == "model"
    # Its reader drops `model_version`: the parameters alone tell it.
    assert found["json"]["parameters"]["version"] == "1"
    assert found["binary"]["actions"] == [0, 1] * 100
    np.testing.assert_allclose(found["binary"]["q_values"], Q_VALUES * 100, rtol=1e-6)
    assert found["unknown_model"]["status"] == 404
    # Only of exactly `application/json` does this client read the sentence.
    assert "'pong'" in found["unknown_model"]["error"]
    assert found["bad_shape"]["status"] == 400
    assert "shape [-1, 4]" in found["bad_shape"]["error"]
