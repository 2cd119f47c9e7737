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
from service.errors import MalformedBodyError, RequestTimeoutError, ServiceError
from service.faces.hot import find_hot_route
from service.faces.http import Route, call_face
from service.messages import Reply, Request, error_reply
from service.server import Server

_LINGER_SECONDS: Final = 1.0
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

    __slots__ = (
        "body",
        "disconnected",
        "expects_continue",
        "has_turn",
        "keep_alive",
        "message_event",
        "path_parameters",
        "refusal",
        "request",
        "response_complete",
        "route",
    )

    def __init__(
        self,
        route: Route,
        path_parameters: tuple[str, ...],
        *,
        keep_alive: bool,
        expects_continue: bool,
    ) -> None:
        self.route = route
        self.path_parameters = path_parameters
        self.keep_alive = keep_alive
        self.expects_continue = expects_continue
        self.body = bytearray()
        self.request: Request | None = None
        """Set once the body is whole."""
        self.refusal: ServiceError | None = None
        """Set where the request is refused before that."""
        self.has_turn = False
        """All earlier requests of the connection are answered."""
        self.response_complete = False
        self.disconnected = False
        self.message_event = _NoEvent()


class FastLane(HttpToolsProtocol):
    """One connection. `fast_lane` binds it to a server."""

    lane_server: Server

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.receiving_since: float | None = None
        """On `time.monotonic`: when the request that is still arriving began to."""
        self._held_since: float | None = None
        """Answers wait in the socket's buffer: no further request gets its turn."""
        self._is_discarding = False
        """The last answer is given; what still comes is not looked at."""
        self._default_headers: list[tuple[bytes, bytes]] | None = None
        self._rendered_headers = b""

    def connection_made(self, transport: Any) -> None:
        """A client connected, and has so long to send its first request."""
        super().connection_made(transport)
        self.receiving_since = time.monotonic()

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if not self._is_discarding:
            super().data_received(data)

    def on_message_begin(self) -> None:
        """A request begins; uvicorn's scope is made only once it turns out to be for it."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        if self.receiving_since is None:
            self.receiving_since = time.monotonic()

    def on_headers_complete(self) -> None:
        """The path is known: take the request, or hand it on."""
        if self._is_discarding:
            return
        found = None
        if self.parser.get_method() == b"POST" and not self.parser.should_upgrade():
            found = find_hot_route(self.url.partition(b"?")[0])
        if found is None:
            url, headers, expects = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()
            self.url, self.expect_100_continue = url, expects
            self.headers += headers
            super().on_headers_complete()
            return
        keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        cycle = HotCycle(*found, keep_alive=keep_alive, expects_continue=self.expect_100_continue)
        before: Any = self.cycle
        self.cycle = cycle  # type: ignore[assignment]
        if (before is None or before.response_complete) and self._held_since is None:
            cycle.has_turn = True
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))  # type: ignore[arg-type]
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
            cycle.body += body
            if len(cycle.body) > self.lane_server.settings.body_max_bytes:
                self._refuse(cycle, too_large(self.lane_server.settings.body_max_bytes))

    def on_message_complete(self) -> None:
        """The last byte has come."""
        self.receiving_since = None
        cycle: Any = self.cycle
        if not isinstance(cycle, HotCycle):
            super().on_message_complete()
        elif not self._is_discarding:
            cycle.request = Request(
                bytes(cycle.body),
                self.headers,
                self.url.partition(b"?")[2],
                cycle.path_parameters,
                time.perf_counter(),
                self._header(b"content-type") or b"",
            )
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
            self._held_since = time.monotonic()
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
        super().on_response_complete()
        # uvicorn reads on after every answer; a client that only sends would fill the memory.
        if self.pipeline and not self.transport.is_closing():
            self.flow.pause_reading()

    def send_400_response(self, msg: str) -> None:
        """What came is not HTTP. Requests before it are still answered, in order."""
        self._end_with(MalformedBodyError(msg))

    def end_if_overdue(self, limit: float) -> None:
        """End what has been arriving, or waiting to be read, since before `limit`."""
        if self._held_since is not None:
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
            call_face(self.lane_server, cycle.route, cycle.request, partial(self._send, cycle))

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
        self.lane_server.count_request(cycle.route.path, reply.status)
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
    return type("BoundFastLane", (FastLane,), {"lane_server": server})


def close_overdue(connections: Iterable[Any], limit_seconds: float) -> None:
    """End the connections whose client sends, or reads, too slowly."""
    limit = time.monotonic() - limit_seconds
    for connection in list(connections):
        connection.end_if_overdue(limit)
