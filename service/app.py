"""The FastAPI application: every face as an ordinary route, under any ASGI server."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import (
    ERROR_STATUSES,
    ForbiddenError,
    InternalError,
    InvalidRequestError,
    MalformedBodyError,
    MethodNotAllowedError,
    PayloadTooLargeError,
    ServiceError,
    UnknownPathError,
)
from service.faces import (
    bundles,
    console,
    events,
    health,
    history,
    inference_models,
    inference_repository,
    operator,
    policies,
    profiles,
    rollout,
)
from service.faces.access import OPERATORS_PORT
from service.faces.documentation import body_schema, response_schema
from service.faces.hot import HOT_ROUTES, find_hot_route
from service.faces.http import Route, call_face
from service.faces.steps import OWN_STEPS
from service.logs import describe_failure
from service.messages import Reply, error_reply
from service.messages import Request as HotRequest
from service.metrics import Metrics
from service.other_sites import HARMLESS_METHODS, refuse_other_sites
from service.pages import Page
from service.server import ALONE, Place, Server
from service.settings import ServiceSettings

_log = structlog.get_logger(__name__)


def create_app(
    settings: ServiceSettings,
    page: Page | None = None,
    place: Place = ALONE,
    admin_port: int | None = None,
) -> FastAPI:
    """Build the application; nothing is global, so tests can run several side by side.

    Where there is an `admin_port`, what operators call is answered on that port alone.
    """
    server = Server(settings, Metrics(page), place)
    server.answer_sibling = partial(call_face, server, OWN_STEPS)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await server.start()
        yield
        await server.stop()

    app = FastAPI(
        title="DQN serving",
        summary="Greedy actions of Deep-Q-Network policies, with a fallback that always answers.",
        lifespan=lifespan,
        # FastAPI's own pages take their scripts from another host; see `service.faces.console`.
        docs_url=None,
        redoc_url=None,
        # Clients send octet-stream for JSON, or nothing at all.
        strict_content_type=False,
    )
    app.state.server = server
    app.state.admin_port = admin_port
    app.state.feed = events.Feed(server)
    for route in HOT_ROUTES:
        _add_hot_route(app, server, route)
        for status in (200, *ERROR_STATUSES):
            server.metrics.counter("dqn_http_requests_total", route.path, str(status))
    for router in (
        policies.router, history.router, bundles.router, rollout.read_router,
        inference_models.router,
    ):  # fmt: skip
        app.include_router(router)
    for router in (
        health.router,
        operator.router,
        profiles.router,
        rollout.submit_router,
        rollout.operate_router,
        inference_repository.router,
        events.router,
        console.router,
    ):
        app.include_router(router, dependencies=[OPERATORS_PORT])
    _add_error_handlers(app)
    app.add_middleware(BodyLimit, max_bytes=settings.body_max_bytes)
    app.add_middleware(OwnSite, settings=settings)
    app.add_middleware(RequestCount, server=server)
    return app


def _add_hot_route(app: FastAPI, server: Server, route: Route) -> None:
    async def endpoint(request: Request) -> Response:
        body = await request.body()
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def respond(reply: Reply) -> None:
            # The client may have gone, and its request with it.
            if not answered.done():
                answered.set_result(reply)

        call_face(
            server,
            route,
            HotRequest(
                body,
                request.headers.raw,
                request.scope["query_string"],
                tuple(request.path_params.values()),
                time.perf_counter(),
                request.headers.get("content-type", "").encode("latin-1"),
            ),
            respond,
        )
        return _response(await answered)

    endpoint.__doc__ = route.face.__doc__
    app.add_api_route(
        route.path,
        endpoint,
        methods=["POST"],
        name=route.face.__name__,
        tags=["decisions"],
        openapi_extra={"requestBody": body_schema(route.path)},
        responses={200: response_schema(route.path)},
    )


def _response(reply: Reply) -> Response:
    response = Response(reply.body, reply.status, dict(reply.headers))
    # Set by hand: a media type given to Response may have a charset appended.
    response.headers["content-type"] = reply.content_type.decode()
    return response


def _add_error_handlers(app: FastAPI) -> None:
    async def respond_to_error(request: Request, error: Exception) -> Response:
        return _response(error_reply(_as_service_error(error)))

    kinds: Final = (ServiceError, RequestValidationError, HTTPException, Exception)
    for kind in kinds:
        app.add_exception_handler(kind, respond_to_error)


def _as_service_error(error: Exception) -> ServiceError:
    match error:
        case ServiceError():
            return error
        case RequestValidationError():
            fault = error.errors()[0]
            where = ".".join(str(part) for part in fault["loc"])
            return InvalidRequestError(f"{where}: {fault['msg']}")
        case HTTPException() if isinstance(error.__cause__, ServiceError):
            # FastAPI wraps what reading the body raised.
            return error.__cause__
        case HTTPException(status_code=400):
            return MalformedBodyError("the body cannot be decoded")
        case HTTPException(status_code=404):
            return UnknownPathError("there is nothing at this path")
        case HTTPException(status_code=405):
            return MethodNotAllowedError("this path does not take this method")
        case _:
            _log.error("request_failed", error=describe_failure(error))
            return InternalError("see the server's log")


class BodyLimit:
    """Refuses a body over the limit, by its declared length or while it streams in.

    Every body is JSON whatever its sender calls it (curl: a form; tritonclient: an octet-stream),
    so FastAPI, which would look, is told so.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_bytes:
            await self._refuse(scope, receive, send)
            return
        seen = 0

        async def receive_within_limit() -> Any:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_bytes:
                raise too_large(self._max_bytes)
            return message

        if find_hot_route(scope["path"].encode()) is None:
            headers[b"content-type"] = b"application/json"
            scope["headers"] = list(headers.items())
        await self._app(scope, receive_within_limit, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _response(error_reply(too_large(self._max_bytes)))(scope, receive, send)


class OwnSite:
    """Refuses what a browser sends for a page of another site; the fast lane does so itself."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] == "http" and scope["method"] not in HARMLESS_METHODS:
            try:
                refuse_other_sites(scope["headers"], self._settings)
            except ForbiddenError as error:
                await _response(error_reply(error))(scope, receive, send)
                return
        await self._app(scope, receive, send)


class RequestCount:
    """Counts every answer by its route's template; the fast lane counts its own."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self._app = app
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""

        async def send_and_count(message: Any) -> None:
            if message["type"] == "http.response.start":
                # A path that no route matched is a client's invention, and no label.
                path = getattr(scope.get("route"), "path", "unknown")
                self._server.count_request(path, message["status"])
            await send(message)

        await self._app(scope, receive, send_and_count if scope["type"] == "http" else send)


def too_large(max_bytes: int) -> PayloadTooLargeError:
    """The error for a body over the limit."""
    return PayloadTooLargeError(f"the body is over the limit of {max_bytes} bytes")
