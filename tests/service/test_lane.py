import json
import socket
import time
from pathlib import Path

import pytest

from service.keys import add_key
from tests.service.conftest import declare
from tests.service.running import (
    Connection,
    Running,
    actions_call,
    post,
    running,
    settings_for,
    wait_until,
)

GET_LIVE = b"GET /livez HTTP/1.1\r\nhost: test\r\n\r\n"


def chunked(body: bytes, size: int, *headers: str) -> bytes:
    lines = ["POST /v1/actions HTTP/1.1", "host: test", "transfer-encoding: chunked", *headers]
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return "\r\n".join([*lines, "", ""]).encode() + framed + b"0\r\n\r\n"


def body_of(decision_id: str) -> bytes:
    return json.dumps({"observations": [[0, 0, 0, 0]], "decision_id": decision_id}).encode()


def decision_id(answer: tuple[int, dict[str, str], bytes]) -> str:
    status, _, body = answer
    assert status == 200, body
    return str(json.loads(body)["decision_id"])


def test_pipelined_requests_are_answered_in_order_whoever_answers_them(
    without_model: Running,
) -> None:
    outcome = {"outcomes": [{"episode_id": "e", "step": 0, "reward": 1.0}]}
    requests = [
        (actions_call("first"), 200, b"first"),
        (GET_LIVE, 200, b'"live"'),
        (post("/v1/actions", b"{"), 400, b"malformed_body"),
        # Answered only after an fsync, while what follows could be answered at once.
        (post("/v1/outcomes", outcome), 200, b"accepted"),
        (actions_call("second"), 200, b"second"),
        (b"GET /nowhere HTTP/1.1\r\nhost: test\r\n\r\n", 404, b"not_found"),
        (post("/v1/outcomes", {"outcomes": []}), 422, b"invalid_request"),
        (GET_LIVE, 200, b'"live"'),
        (actions_call("third"), 200, b"third"),
    ]
    with without_model.connect() as connection:
        for _ in range(20):
            connection.send(b"".join(request for request, _, _ in requests))
            for _, status, said in requests:
                found, _, body = connection.answer()
                assert (found, said in body) == (status, True), body


@pytest.mark.parametrize("path", ["/v1/actions", "/v1/outcomes"])
def test_thousands_of_pipelined_bad_requests_are_answered_one_by_one(
    without_model: Running, path: str
) -> None:
    with without_model.connect() as connection:
        # Behind one that is answered later, so that each gives its turn to the next.
        connection.send(actions_call("first") + post(path, b"{") * 5000 + actions_call("last"))
        assert decision_id(connection.answer()) == "first"
        for _ in range(5000):
            assert connection.answer()[0] == 400
        assert decision_id(connection.answer()) == "last"


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_chunked_bodies_are_put_together(without_model: Running, size: int) -> None:
    with without_model.connect() as connection:
        connection.send(chunked(body_of("a"), size) + chunked(body_of("b"), size))
        assert [decision_id(connection.answer()) for _ in range(2)] == ["a", "b"]


def test_a_request_may_come_byte_by_byte(without_model: Running) -> None:
    with without_model.connect() as connection:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in actions_call("slow"):
            connection.send(bytes([byte]))
        assert decision_id(connection.answer()) == "slow"


def test_a_client_that_asks_is_told_to_go_on_before_it_sends_its_body(
    without_model: Running,
) -> None:
    head, _, body = post("/v1/actions", body_of("asked"), "expect: 100-continue").partition(
        b"\r\n\r\n"
    )
    with without_model.connect() as connection:
        connection.send(head + b"\r\n\r\n")
        assert connection.answer()[0] == 100
        connection.send(body)
        assert decision_id(connection.answer()) == "asked"
        # Pipelined: told in its turn, after the answer to what came before.
        connection.send(actions_call("before") + head + b"\r\n\r\n")
        assert decision_id(connection.answer()) == "before"
        assert connection.answer()[0] == 100
        connection.send(body)
        assert decision_id(connection.answer()) == "asked"


def test_a_client_that_asks_to_send_too_much_is_refused_before_it_does(
    without_model: Running,
) -> None:
    limit = without_model.server.settings.body_max_bytes
    with without_model.connect() as connection:
        connection.send(
            f"POST /v1/actions HTTP/1.1\r\ncontent-length: {limit + 1}\r\n"
            "expect: 100-continue\r\n\r\n".encode()
        )
        status, headers, _ = connection.answer()
        assert (status, headers["connection"]) == (413, "close")
        assert connection.is_closed()


def test_what_was_asked_before_an_oversized_request_is_still_answered(
    without_model: Running,
) -> None:
    limit = without_model.server.settings.body_max_bytes
    outcome = post("/v1/outcomes", {"outcomes": [{"episode_id": "e", "step": 1, "reward": 0.5}]})
    oversized = f"POST /v1/actions HTTP/1.1\r\ncontent-length: {limit + 1}\r\n\r\n".encode()
    with without_model.connect() as connection:
        connection.send(outcome + actions_call("a") + GET_LIVE + oversized + b"x" * 100)
        found = [connection.answer()[0] for _ in range(4)]
        assert found == [200, 200, 200, 413]
        assert connection.is_closed()


def test_what_comes_behind_a_refused_request_is_not_acted_on(tmp_path: Path) -> None:
    declare(tmp_path)
    with running(settings_for(tmp_path, body_max_bytes=1024)) as service:
        with service.connect() as connection:
            pin = post("/v1/policies/cartpole/pin", {"why": "smuggled"})
            connection.send(chunked(b" " * 2000, 500) + pin)
            assert connection.answer()[0] == 413
            assert connection.is_closed()
        assert service.client.get("/v1/policies/cartpole").json()["pinned"] is False
        assert service.client.get("/v1/policies/cartpole/ledger").json()["entries"] == []


def test_a_client_can_read_the_refusal_though_it_went_on_sending(without_model: Running) -> None:
    with without_model.connect() as connection:
        connection.send(b"POST /v1/actions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        for _ in range(without_model.server.settings.body_max_bytes // 0x10000 + 8):
            connection.send(piece)
        assert connection.answer()[0] == 413
        assert connection.is_closed()


@pytest.mark.parametrize(
    "begun",
    [
        b"POST /v1/actions HTTP/1.1\r\ncontent-length: 100\r\n\r\n{",
        b"POST /v1/actions HTTP/1.1\r\ncontent-le",
        GET_LIVE[:-4],
    ],
)
def test_a_request_that_does_not_arrive_in_time_is_told_so(
    without_model: Running, begun: bytes
) -> None:
    with without_model.connect() as connection:
        connection.send(actions_call("before"))
        assert decision_id(connection.answer()) == "before"
        connection.send(begun)
        status, _, body = connection.answer()
        assert (status, json.loads(body)["code"]) == (408, "request_timeout")
        assert connection.is_closed()


def test_a_connection_that_says_nothing_at_first_is_closed(without_model: Running) -> None:
    with without_model.connect() as connection:
        assert connection.is_closed()


def test_an_idle_connection_is_kept_between_requests(without_model: Running) -> None:
    with without_model.connect() as connection:
        connection.send(actions_call("before"))
        assert decision_id(connection.answer()) == "before"
        # Longer than a request may take to arrive.
        time.sleep(without_model.server.settings.request_timeout_seconds + 0.6)
        connection.send(actions_call("after"))
        assert decision_id(connection.answer()) == "after"


def test_a_client_that_never_reads_is_not_read_from_and_others_are_served(
    without_model: Running,
) -> None:
    request = actions_call("unread", rows=200)
    with Connection(without_model.port) as deaf:
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.socket.settimeout(0.3)
        # Were the server to read on, it would take all of this: half a gigabyte.
        assert sent_until_refused(deaf, request * 100, 512 * 2**20) < 64 * 2**20
        assert without_model.act([[0, 0, 0, 0]]).status_code == 200
        deaf.socket.settimeout(30.0)
        # It holds its memory no longer than a request may take to arrive.
        wait_until(lambda: not is_connected(without_model, deaf), "the deaf client is let go")


def sent_until_refused(connection: Connection, content: bytes, most: int) -> int:
    """Bytes that could be sent before the socket takes no more."""
    sent = 0
    try:
        while sent < most:
            sent += connection.socket.send(content)
    except (TimeoutError, ConnectionError):
        pass
    return sent


def is_connected(service: Running, connection: Connection) -> bool:
    name = connection.socket.getsockname()
    return any(getattr(each, "client", None) == name for each in list(service.connections))


def test_a_client_that_only_sends_is_read_from_no_faster_than_it_is_answered(
    without_model: Running,
) -> None:
    outcome = post("/v1/outcomes", {"outcomes": [{"episode_id": "e", "step": 9, "reward": 0.5}]})
    with without_model.connect() as connection:
        connection.socket.settimeout(0.5)
        # Each waits for its fsync; read ahead of them, all this would lie in memory.
        assert sent_until_refused(connection, outcome * 1000, 64 * 2**20) < 32 * 2**20


def test_a_client_that_leaves_in_the_middle_disturbs_nobody(without_model: Running) -> None:
    outcome = post("/v1/outcomes", {"outcomes": [{"episode_id": "e", "step": 2, "reward": 0.5}]})
    for left in (outcome, outcome * 50, actions_call("gone")[:-10], actions_call("gone"), b"PO"):
        for _ in range(20):
            with without_model.connect() as connection:
                connection.send(left)
    assert without_model.act([[0, 0, 0, 0]]).status_code == 200
    # Connections are not read in the order in which they were made.
    batcher = without_model.server.policies["cartpole"].batcher
    wait_until(lambda: batcher.is_idle, "what they asked is answered")


@pytest.mark.parametrize(("version", "headers"), [("1.0", []), ("1.1", ["connection: close"])])
def test_a_connection_is_closed_where_the_client_says_so(
    without_model: Running, version: str, headers: list[str]
) -> None:
    with without_model.connect() as connection:
        connection.send(post("/v1/actions", body_of("only"), *headers, version=version))
        status, found, _ = answer = connection.answer()
        assert decision_id(answer) == "only"
        assert (status, found["connection"]) == (200, "close")
        assert connection.is_closed()


def test_garbage_after_good_requests_is_refused_once_they_are_answered(
    without_model: Running,
) -> None:
    with without_model.connect() as connection:
        outcome = {"outcomes": [{"episode_id": "e", "step": 3, "reward": 0.5}]}
        connection.send(
            post("/v1/outcomes", outcome) + actions_call("good") + b"\x00\x01garbage\r\n\r\n"
        )
        assert connection.answer()[0] == 200
        assert decision_id(connection.answer()) == "good"
        assert connection.is_closed()


def test_garbage_alone_is_told_so(without_model: Running) -> None:
    with without_model.connect() as connection:
        connection.send(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        status, _, body = connection.answer()
        assert (status, json.loads(body)["code"]) == (400, "malformed_body")
        assert connection.is_closed()


def test_garbage_within_a_chunked_body_is_told_so(without_model: Running) -> None:
    with without_model.connect() as connection:
        connection.send(
            actions_call("good")
            + b"POST /v1/actions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nnot hex\r\n"
        )
        assert decision_id(connection.answer()) == "good"
        assert connection.answer()[0] == 400
        assert connection.is_closed()


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_on_a_hot_path_are_refused(without_model: Running, method: str) -> None:
    response = without_model.client.request(method, "/v1/actions")
    assert response.status_code == 405
    if method != "HEAD":
        assert response.json()["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/v1/actions?trace=1", "http://test/v1/actions", "/v1/%61ctions"])
def test_a_hot_path_may_be_spelt_otherwise(without_model: Running, path: str) -> None:
    with without_model.connect() as connection:
        connection.send(post(path, body_of("spelt")))
        assert decision_id(connection.answer()) == "spelt"


def test_an_unknown_path_has_the_shape_of_every_error(without_model: Running) -> None:
    response = without_model.client.post("/v1/nothing", content=b"{}")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_broken_json_on_an_ordinary_route_is_the_clients_fault(without_model: Running) -> None:
    for content in (b"{", b'{"why": ' + b"[" * 100_000, b"\xff"):
        response = without_model.client.post("/v1/policies/cartpole/pin", content=content)
        assert response.status_code in (400, 422), response.text
        assert response.json().keys() == {"error", "code"}


def test_a_head_that_was_seen_before_is_answered_for_what_its_own_body_says(
    without_model: Running,
) -> None:
    """The second request of one length takes another way through the lane than the first."""
    with without_model.connect() as connection:
        for name in ("one", "two", "six", "ten"):
            connection.send(actions_call(name))
            assert decision_id(connection.answer()) == name
        # And in pieces, behind one another, and without a body's last byte: the parser's again.
        connection.send(actions_call("abc") + actions_call("def")[:-1])
        assert decision_id(connection.answer()) == "abc"
        connection.send(actions_call("def")[-1:])
        assert decision_id(connection.answer()) == "def"
        connection.send(actions_call("end"))
        assert decision_id(connection.answer()) == "end"


def test_a_known_head_is_no_way_round_a_key_that_is_gone(tmp_path: Path) -> None:
    declare(tmp_path)
    keys = tmp_path / "keys"
    key = add_key(keys, "agent", ["act"])
    request = post("/v1/actions", body_of("one"), f"authorization: Bearer {key}")
    with (
        running(settings_for(tmp_path, keys_file=keys)) as service,
        service.connect() as connection,
    ):
        for _ in range(3):
            connection.send(request)
            assert connection.answer()[0] == 200
        keys.write_text("", encoding="utf-8")

        def is_refused() -> bool:
            connection.send(request)
            return connection.answer()[0] == 401

        wait_until(is_refused, "the key is gone")


def test_a_connection_that_asks_for_nothing_more_is_closed(tmp_path: Path) -> None:
    declare(tmp_path)
    with running(settings_for(tmp_path, keep_alive_seconds=1.0)) as service:
        with service.connect() as connection:
            connection.send(actions_call("hot"))
            assert decision_id(connection.answer()) == "hot"
            assert connection.is_closed()
        with service.connect() as connection:
            connection.send(GET_LIVE)
            assert connection.answer()[0] == 200
            assert connection.is_closed()
