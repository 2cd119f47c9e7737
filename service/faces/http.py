"""What every face shares: a request in, a reply out, an error as a reply.

A face is a function of (server, request, respond) that calls `respond` once, now or later, on the
event loop. Both the fast lane and the FastAPI routes call it through `call_face`.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import structlog

from service.errors import InternalError, ServiceError
from service.keys import Scope

if TYPE_CHECKING:
    from service.server import Server

JSON: Final = b"application/json"
MSGPACK: Final = b"application/msgpack"
OCTET_STREAM: Final = b"application/octet-stream"

_log = structlog.get_logger(__name__)


class Request(NamedTuple):
    """What a face is given of a request."""

    body: bytes
    headers: Sequence[tuple[bytes, bytes]] = ()
    """As they came, names in lower case."""
    query: bytes = b""
    path_parameters: tuple[str, ...] = ()
    arrived_at: float = 0.0
    """`time.perf_counter()` when the last body byte had come."""
    content_type: bytes = b""
    """As said by the client; empty where it said nothing. A header like others, read once."""

    def header(self, name: bytes) -> bytes | None:
        """A header's value; of one sent twice the first counts."""
        for found, value in self.headers:
            if found == name:
                return value
        return None

    @property
    def is_msgpack(self) -> bool:
        """Said to be MessagePack; anything else, or nothing, is taken for JSON."""
        return self.content_type.startswith(MSGPACK)


class Reply(NamedTuple):
    """What a face answers."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[str, str], ...] = ()


Respond = Callable[[Reply], None]
Face = Callable[["Server", Request, Respond], None]


class Route(NamedTuple):
    """A hot call: taken by the fast lane, and an ordinary route besides."""

    path: str
    """As in OpenAPI; also the label of the metric."""
    scope: Scope
    face: Face


class ErrorBody(msgspec.Struct):
    """Every error, whatever went wrong: two strings."""

    error: str
    code: str


def call_face(server: "Server", route: Route, request: Request, respond: Respond) -> None:
    """Let the route's face answer; an error of any kind becomes a reply."""
    try:
        server.keys.authorise(request.header(b"authorization"), route.scope)
        server.refuse_unless_serving()
        route.face(server, request, respond)
    except ServiceError as error:
        respond(error_reply(error))
    except Exception:  # noqa: BLE001 - the client is told, whatever it was
        _log.exception("request_failed", route=route.path)
        respond(error_reply(InternalError("see the server's log")))


def error_reply(error: ServiceError) -> Reply:
    """The one shape that errors have."""
    body = msgspec.json.encode(ErrorBody(str(error), error.code))
    return Reply(error.status, body, headers=error.headers)
