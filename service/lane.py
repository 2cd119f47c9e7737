"""The fast lane: hot calls are answered inside uvicorn's HTTP protocol, without an ASGI task.

uvicorn takes its protocol class as a setting. This subclass answers a POST to a hot route itself,
body straight to the face and bytes straight to the socket, and hands every other path on. A hot
request keeps its place in its connection's order as uvicorn's own requests do: `HotCycle` stands
where they have their `RequestResponseCycle`.
"""

import time
from collections.abc import Iterable
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.app import too_large
from service.errors import (
    ForbiddenError,
    HeadTooLargeError,
    MalformedBodyError,
    RequestTimeoutError,
    ServiceError,
)
from service.faces.hot import find_hot_route
from service.faces.http import call_face
from service.heads import Head, KnownHeads
from service.messages import Reply, Request, error_reply
from service.other_sites import refuse_other_sites
from service.server import Server

_LINGER_SECONDS: Final = 1.0
_MAX_HEAD_BYTES: Final = 64 * 1024
"""Beyond the piece in which a request begins."""
_BYTES_A_BYTE: Final = 8
"""That one byte of a body may take on its way, as a chunk of its own."""
_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class _NoEvent:
    """Stands where uvicorn would wake an ASGI task that waits for a body."""

    def set(self) -> None:
        """Nobody waits."""


class HotCycle:
    """One hot request on its connection, with the attributes that uvicorn looks at."""

    message_event = _NoEvent()

    __slots__ = (
        "body",
        "disconnected",
        "expects_continue",
        "has_turn",
        "head",
        "keep_alive",
        "refusal",
        "request",
        "response_complete",
    )

    def __init__(self, head: Head, request: Request | None = None) -> None:
        self.head = head
        self.request = request
        """Set once the body is whole."""
        self.body: bytes | bytearray = b""
        self.keep_alive = True
        self.expects_continue = False
        self.refusal: ServiceError | None = None
        """Set where the request is refused before its body is whole."""
        self.has_turn = request is not None
        """All earlier requests of the connection are answered."""
        self.response_complete = False
        self.disconnected = False


class FastLane(HttpToolsProtocol):
    """One connection. `fast_lane` binds it to a server."""

    lane_server: Server
    known_heads: KnownHeads

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # All three on `time.perf_counter`.
        self.receiving_since: float | None = None
        """When the request that is still arriving began to."""
        self.idle_since: float | None = None
        """When the last answer was given, while nothing is asked."""
        self._held_since: float | None = None
        """Answers wait in the socket's buffer: no further request gets its turn."""
        self._is_discarding = False
        """The last answer is given; what still comes is not looked at."""
        self._is_parsing = False
        """The parser has seen a part of a request."""
        self._is_in_head = False
        self._room = 0
        """Bytes that the head, and after it the body, may still take on their way."""
        self._unparsed: bytes | None = None
        """What came while nothing was under way, until a request in it is whole."""
        self._default_headers: list[tuple[bytes, bytes]] | None = None
        self._rendered_headers = b""

    def connection_made(self, transport: Any) -> None:
        """A client connected, and has so long to send its first request."""
        super().connection_made(transport)
        self.receiving_since = time.perf_counter()

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._is_discarding:
            return
        self.idle_since = None
        self._unparsed = None
        before: Any = self.cycle
        if not self._is_parsing and (before is None or before.response_complete):
            found = self.known_heads.find(data) if self._held_since is None else None
            if found is not None:
                self._take(*found)
                return
            self._unparsed = data
        if self._is_parsing:
            self._room -= len(data)
        super().data_received(data)
        if self._room < 0 and self._is_parsing and not self._is_discarding:
            self._end_with(self._too_long())

    def _take(self, head: Head, body: bytes) -> None:
        """A whole request, come while nothing was under way."""
        self.receiving_since = None
        cycle = HotCycle(head, head.request(body))
        self.cycle = cycle  # type: ignore[assignment]
        self._answer(cycle)

    def on_message_begin(self) -> None:
        """A request begins; uvicorn's scope is made only once it turns out to be for it."""
        self._is_parsing = self._is_in_head = True
        self._room = _MAX_HEAD_BYTES
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        if self.receiving_since is None:
            self.receiving_since = time.perf_counter()

    def on_headers_complete(self) -> None:
        """The path is known: take the request, or hand it on."""
        if self._is_discarding:
            return
        self._is_in_head = False
        self._room = _MAX_HEAD_BYTES + _BYTES_A_BYTE * self.lane_server.settings.body_max_bytes
        found = None
        path, _, query = self.url.partition(b"?")
        if self.parser.get_method() == b"POST" and not self.parser.should_upgrade():
            found = find_hot_route(path)
        if found is None:
            url, headers, expects = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()
            self.url, self.expect_100_continue = url, expects
            self.headers += headers
            super().on_headers_complete()
            return
        content_type = self._header(b"content-type") or b""
        cycle = HotCycle(Head(*found, self.headers, query, content_type))
        cycle.keep_alive = (
            self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        )
        cycle.expects_continue = self.expect_100_continue
        before: Any = self.cycle
        self.cycle = cycle  # type: ignore[assignment]
        if (before is None or before.response_complete) and self._held_since is None:
            cycle.has_turn = True
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))  # type: ignore[arg-type]
        try:
            refuse_other_sites(self.headers, self.lane_server.settings)
        except ForbiddenError as error:
            self._refuse(cycle, error)
            return
        declared = self._header(b"content-length")
        if declared is not None and int(declared) > self.lane_server.settings.body_max_bytes:
            self._refuse(cycle, too_large(self.lane_server.settings.body_max_bytes))
        elif cycle.has_turn:
            self._ask_for_body(cycle)

    def on_body(self, body: bytes) -> None:
        """A piece of a body, chunked or not."""
        cycle: Any = self.cycle
        if not isinstance(cycle, HotCycle):
            super().on_body(body)
        elif not self._is_discarding:
            if cycle.body:
                # Grows in place: a body may come in a million pieces.
                cycle.body = bytearray(cycle.body) if type(cycle.body) is bytes else cycle.body
                cycle.body += body
            else:
                cycle.body = body
            if len(cycle.body) > self.lane_server.settings.body_max_bytes:
                self._refuse(cycle, too_large(self.lane_server.settings.body_max_bytes))

    def on_message_complete(self) -> None:
        """The last byte has come."""
        self.receiving_since = None
        self._is_parsing = False
        unparsed, self._unparsed = self._unparsed, None
        cycle: Any = self.cycle
        if not isinstance(cycle, HotCycle):
            super().on_message_complete()
        elif not self._is_discarding:
            body = bytes(cycle.body)
            if unparsed is not None and cycle.keep_alive and not self.expect_100_continue:
                self.known_heads.learn(unparsed, cycle.head, body)
            cycle.request = cycle.head.request(body)
            if cycle.has_turn:
                self._answer(cycle)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """A pipelined request gets its turn."""
        if isinstance(cycle, HotCycle):
            # Later, not now: each answer gives the next its turn, and the stack is finite.
            self.loop.call_soon(self._take_turn, cycle)
        else:
            super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """An answer is in the socket's buffer; the next request's turn comes when it has room."""
        if self.flow.write_paused and not self.transport.is_closing():
            self._held_since = time.perf_counter()
            self.flow.pause_reading()
        else:
            self._give_next_turn()

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self._held_since is not None:
            self._held_since = None
            self._give_next_turn()

    def _give_next_turn(self) -> None:
        if self.pipeline:
            super().on_response_complete()
            # uvicorn reads on after every answer; a client that only sends would fill the memory.
            if self.pipeline and not self.transport.is_closing():
                self.flow.pause_reading()
            return
        # As uvicorn does, save that its timer for each answer costs as much as the answer: here
        # those who ask nothing more are looked for twice a second.
        self.server_state.total_requests += 1
        self.idle_since = time.perf_counter()
        if self.flow.read_paused and not self.transport.is_closing():
            self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:
        """What came is not HTTP. Requests before it are still answered, in order."""
        self._end_with(MalformedBodyError(msg))

    def end_if_overdue(self, limit: float, idle_limit: float) -> None:
        """End what has been arriving, or waiting to be read, since before `limit`.

        And what has asked for nothing since before `idle_limit`.
        """
        if self.idle_since is not None and self.idle_since < idle_limit:
            self.transport.close()
        elif self._held_since is not None:
            if self._held_since < limit:
                # What the client does not read would keep the transport from closing.
                self.transport.abort()
        elif self.receiving_since is not None and self.receiving_since < limit:
            self.receiving_since = None
            if self.headers is None:
                self.transport.close()
            else:
                self._end_with(RequestTimeoutError("the request did not arrive in time"))

    def _take_turn(self, cycle: HotCycle) -> None:
        cycle.has_turn = True
        if cycle.request is None and cycle.refusal is None:
            self._ask_for_body(cycle)
        else:
            self._answer(cycle)

    def _ask_for_body(self, cycle: HotCycle) -> None:
        if cycle.expects_continue:
            cycle.expects_continue = False
            self.transport.write(_CONTINUE)

    def _answer(self, cycle: HotCycle) -> None:
        if cycle.refusal is not None:
            self._send(cycle, error_reply(cycle.refusal))
        elif cycle.request is not None:
            call_face(self.lane_server, cycle.head.route, cycle.request, partial(self._send, cycle))

    def _refuse(self, cycle: HotCycle, error: ServiceError) -> None:
        """Answer, in its turn, before the body is whole, and look at nothing that follows."""
        self._is_discarding = True
        self.receiving_since = None
        cycle.keep_alive = False
        cycle.refusal = error
        if cycle.has_turn:
            self._answer(cycle)

    def _end_with(self, error: ServiceError) -> None:
        """Nothing more can be read: answer what is whole, then say why, then close."""
        cycle: Any = self.cycle
        self._is_discarding = True
        if cycle is None or cycle.response_complete:
            self.lane_server.count_request("unknown", error.status)
            self._write(error_reply(error), keep_alive=False)
            self._linger()
        elif isinstance(cycle, HotCycle):
            if cycle.request is None:
                self._refuse(cycle, error)
            cycle.keep_alive = False
        elif cycle.more_body:
            self.transport.close()
        else:
            cycle.keep_alive = False

    def _send(self, cycle: HotCycle, reply: Reply) -> None:
        cycle.response_complete = True
        self.lane_server.count_request(cycle.head.route.path, reply.status)
        if cycle.disconnected or self.transport.is_closing():
            return
        if self.lane_server.state != "ready" and not self.pipeline:
            # Draining: the client's next request goes to a replica that stays.
            cycle.keep_alive = False
        self._write(reply, keep_alive=cycle.keep_alive)
        if not cycle.keep_alive:
            # Whatever was pipelined behind it gets no answer.
            self.pipeline.clear()
            if self._is_discarding:
                self._linger()
            else:
                self.transport.close()
        self.on_response_complete()

    def _write(self, reply: Reply, *, keep_alive: bool) -> None:
        if self._default_headers is not self.server_state.default_headers:
            self._default_headers = self.server_state.default_headers
            self._rendered_headers = b"".join(
                b"%b: %b\r\n" % header for header in self._default_headers
            )
        extra = b""
        if reply.headers:
            extra = "".join(f"{name}: {value}\r\n" for name, value in reply.headers).encode()
        self.transport.write(
            b"%bcontent-type: %b\r\ncontent-length: %d\r\n%b%b%b\r\n%b"
            % (
                _STATUS_LINES[reply.status],
                reply.content_type,
                len(reply.body),
                self._rendered_headers,
                extra,
                b"" if keep_alive else b"connection: close\r\n",
                reply.body,
            )
        )

    def _too_long(self) -> ServiceError:
        if self._is_in_head:
            return HeadTooLargeError(f"request line and headers are over {_MAX_HEAD_BYTES} bytes")
        return too_large(self.lane_server.settings.body_max_bytes)

    def _linger(self) -> None:
        """Close so that the client can still read the answer: unread bytes would reset it away."""
        self._is_discarding = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _header(self, name: bytes) -> bytes | None:
        for found, value in self.headers:
            if found == name:
                return value
        return None


def fast_lane(server: Server) -> type[FastLane]:
    """The protocol class for uvicorn's `http` setting, bound to a server."""
    bound = {"lane_server": server, "known_heads": KnownHeads()}
    return type("BoundFastLane", (FastLane,), bound)


def close_overdue(
    connections: Iterable[Any], limit_seconds: float, idle_limit_seconds: float
) -> None:
    """End the connections whose client sends, or reads, too slowly, or asks for nothing more."""
    now = time.perf_counter()
    for connection in list(connections):
        connection.end_if_overdue(now - limit_seconds, now - idle_limit_seconds)
