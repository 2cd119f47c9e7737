"""What a browser sends for a page of another site, and heads that never end."""

import json
from pathlib import Path

import pytest

from service.errors import ForbiddenError
from service.other_sites import refuse_other_sites
from service.settings import ServiceSettings
from tests.service.conftest import declare
from tests.service.running import Connection, Running, post, running, settings_for

ACT = {"observations": [[0.0, 0.0, 0.1, 0.0]]}
ALONE = ServiceSettings()
OPEN = ServiceSettings(host="0.0.0.0", insecure=True)
KEYED = ServiceSettings(host="0.0.0.0", keys_file=Path("keys"))


def is_refused(settings: ServiceSettings, **headers: str) -> bool:
    told = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    try:
        refuse_other_sites(told, settings)
    except ForbiddenError:
        return True
    return False


@pytest.mark.parametrize("settings", [ALONE, OPEN])
def test_a_page_of_another_site_is_refused_whatever_it_hides(settings: ServiceSettings) -> None:
    host = "127.0.0.1:8000"
    assert is_refused(settings, host=host, origin="https://evil.example")
    assert is_refused(settings, host=host, origin="null")
    assert is_refused(settings, host=host, sec_fetch_site="cross-site")
    # Another port of the same machine is another's page.
    assert is_refused(settings, host=host, origin="http://127.0.0.1:9")
    assert is_refused(settings, host=host, origin=f"http://{host}", sec_fetch_site="same-site")
    assert not is_refused(settings, host=host, origin=f"http://{host}")
    # Behind a proxy that gives another Host, the browser's own word counts.
    assert not is_refused(
        settings, host="localhost", origin="https://dqn.example", sec_fetch_site="same-origin"
    )


def test_a_page_that_has_a_key_may_be_anybody_s() -> None:
    assert not is_refused(KEYED, host="dqn.example", origin="https://game.example")
    assert not is_refused(KEYED, host="dqn.example", sec_fetch_site="cross-site")


def test_an_agent_is_no_browser() -> None:
    assert not is_refused(ALONE, host="dqn.internal:8000")
    assert not is_refused(ALONE)


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("localhost:8000", True),
        ("127.0.0.1", True),
        ("[::1]:8000", True),
        ("[::1]", True),
        ("evil.example:8000", False),
        ("127.0.0.1.evil.example", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_without_keys_a_name_that_came_to_mean_this_machine_is_not_believed(
    host: str, is_ours: bool
) -> None:
    headers = {"host": host, "origin": f"http://{host}"}
    assert is_refused(ALONE, **headers) is not is_ours
    assert is_refused(ALONE, **headers, sec_fetch_site="same-origin") is not is_ours
    assert not is_refused(KEYED, **headers)
    assert not is_refused(OPEN, **headers)


@pytest.mark.parametrize("has_lane", [True, False])
def test_what_another_site_posts_changes_nothing(without_model: Running, has_lane: bool) -> None:
    client = without_model.client if has_lane else without_model.plain
    evil = {"origin": "http://evil.example", "content-type": "text/plain"}
    for path, body in (
        ("/v1/actions", ACT),
        ("/v1/outcomes", {"outcomes": [{"episode_id": "e", "step": 0, "reward": 1.0}]}),
        ("/v1/policies/cartpole/pin", {"why": "a page asked"}),
    ):
        answer = client.post(path, content=json.dumps(body), headers=evil)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), path
    assert not without_model.server.policies["cartpole"].batcher.is_pinned
    assert client.get("/livez", headers=evil).status_code == 200


@pytest.mark.parametrize("path", ["/v1/actions", "/v1/policies"])
@pytest.mark.parametrize("begin", ["{path}", "{path} HTTP/1.1\r\nhost: test\r\nx: "])
def test_a_head_that_never_ends_is_ended(without_model: Running, path: str, begin: str) -> None:
    with without_model.connect() as connection:
        connection.send(f"POST {begin.format(path=path)}".encode())
        until_refused(connection, b"a" * 65536)
        status, _, body = connection.answer()
        assert (status, json.loads(body)["code"]) == (431, "head_too_large")
        assert connection.is_closed()


def test_headers_behind_a_body_end_too(tmp_path: Path) -> None:
    declare(tmp_path)
    with (
        running(settings_for(tmp_path, body_max_bytes=1024)) as small,
        small.connect() as connection,
    ):
        head = b"POST /v1/actions HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n"
        connection.send(head + b"0\r\nx: ")
        until_refused(connection, b"a" * 65536)
        status, _, body = connection.answer()
        assert (status, json.loads(body)["code"]) == (413, "payload_too_large")


def test_a_long_head_and_a_body_in_small_pieces_are_taken(without_model: Running) -> None:
    with without_model.connect() as connection:
        for piece in (b"POST /v1/actions HTTP/1.1\r\nhost: test\r\nx: ", b"a" * 32000):
            connection.send(piece)
        content = json.dumps(ACT).encode()
        connection.send(b"\r\ntransfer-encoding: chunked\r\n\r\n")
        for byte in content:
            connection.send(b"1\r\n%c\r\n" % byte)
        connection.send(b"0\r\n\r\n")
        assert connection.answer()[0] == 200
        connection.send(post("/v1/actions", ACT))
        assert connection.answer()[0] == 200


def until_refused(connection: Connection, piece: bytes) -> None:
    """Send on and on; whoever refuses reads no more, and may reset what is sent."""
    connection.socket.settimeout(10.0)
    for _ in range(40):
        try:
            connection.send(piece)
        except (ConnectionResetError, BrokenPipeError, TimeoutError):
            return
