"""A port for agents and one for operators."""

from pathlib import Path

import httpx
import pytest

from service.settings import ServiceSettings
from tests.service.conftest import declare
from tests.service.process import process
from tests.service.test_console_events import parsed

ACT = {"observations": [[0.0, 0.0, 0.1, 0.0]]}
OPERATORS = [
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/"),
    ("GET", "/docs"),
    ("GET", "/console/app.js"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v1/policies/cartpole/pin"),
    ("POST", "/v1/policies/cartpole/shadow"),
    ("PUT", "/v1/policies/cartpole/rollout"),
]


def test_what_operators_call_is_answered_on_their_port_alone(tmp_path: Path) -> None:
    declare(tmp_path)
    with process(tmp_path, "--admin-listen=127.0.0.1:0", "--workers=2") as service:
        service.wait_until_ready()
        agents = service.client
        assert service.admin_url != str(agents.base_url)
        with httpx.Client(base_url=service.admin_url) as operators:
            for client in (agents, operators):
                answer = client.post("/v1/actions", json=ACT)
                assert answer.json()["actions"] == [1]
                assert client.get("/v1/policies/cartpole").json()["policy"] == "cartpole"
                assert client.get("/v2/health/live").status_code == 200
            for method, path in OPERATORS:
                refused = agents.request(method, path, json={"why": "a test"})
                assert (refused.status_code, refused.json()["code"]) == (404, "not_found"), path
                # A bad body is refused too, where the path is known.
                assert operators.request(method, path, json={"why": "a test"}).status_code != 404
            with operators.stream("GET", "/v1/events") as stream:
                assert stream.status_code == 200
            assert agents.get("/v1/events").status_code == 404
        assert "Traceback" not in service.log()


def test_with_one_port_everything_is_answered_there(tmp_path: Path) -> None:
    declare(tmp_path)
    with process(tmp_path) as service:
        service.wait_until_ready()
        assert service.admin_url == str(service.client.base_url)
        for method, path in OPERATORS:
            assert service.client.request(method, path, json={"why": "a test"}).status_code != 404


def test_a_listener_to_events_does_not_hold_a_stop_up(tmp_path: Path) -> None:
    declare(tmp_path)
    with process(tmp_path, "--drain-notice-seconds=0") as service:
        service.wait_until_ready()
        with service.client.stream("GET", "/v1/events") as response:
            told = parsed(response.iter_lines())
            assert next(told)[0] == "snapshot"
            service.ask_to_stop()
            # Else the connection is cut once `drain_seconds` are over, and nothing more is said.
            *_, (kind, why) = told
        assert (kind, why["code"]) == ("ended", "not_ready")
        assert service.stop() == 0


def test_a_door_for_operators_needs_keys_as_well(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"admin_listen 0\.0\.0\.0 is not loopback"):
        ServiceSettings(admin_listen="0.0.0.0:8002")
    keys = tmp_path / "keys"
    assert ServiceSettings(admin_listen="0.0.0.0:8002", keys_file=keys).admin == ("0.0.0.0", 8002)
    assert ServiceSettings(admin_listen="[::1]:8002").admin == ("::1", 8002)
    assert ServiceSettings().admin is None


@pytest.mark.parametrize("wrong", ["8002", ":8002", "localhost:", "localhost:http", "h:70000"])
def test_an_address_for_operators_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="expected host:port"):
        ServiceSettings(admin_listen=wrong)


def test_operators_cannot_have_the_port_of_agents() -> None:
    with pytest.raises(ValueError, match="8000, which is that of agents"):
        ServiceSettings(admin_listen="127.0.0.1:8000")
    assert ServiceSettings(port=0, admin_listen="127.0.0.1:0").admin == ("127.0.0.1", 0)
