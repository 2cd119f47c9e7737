"""What every face shares. A face is a function of (server, request, respond).

It calls `respond` once, now or later, on the event loop. Both the fast lane and the FastAPI routes
call it through `call_face`.
"""

from collections.abc import Callable
from typing import NamedTuple

import structlog

from service.errors import InternalError, ServiceError
from service.keys import Scope
from service.logs import describe_failure
from service.messages import Request, Respond, error_reply
from service.server import Server

Face = Callable[[Server, Request, Respond], None]

_log = structlog.get_logger(__name__)


class Route(NamedTuple):
    """A hot call: taken by the fast lane, and an ordinary route besides."""

    path: str
    """As in OpenAPI; also the label of the metric."""
    scope: Scope
    face: Face


def call_face(server: Server, route: Route, request: Request, respond: Respond) -> None:
    """Let the route's face answer; an error of any kind becomes a reply."""
    try:
        server.keys.authorise(request.header(b"authorization"), route.scope)
        server.refuse_unless_serving()
        route.face(server, request, respond)
    except ServiceError as error:
        respond(error_reply(error))
    except Exception as error:  # noqa: BLE001 - the client is told, whatever it was
        _log.error("request_failed", route=route.path, error=describe_failure(error))
        respond(error_reply(InternalError("see the server's log")))
