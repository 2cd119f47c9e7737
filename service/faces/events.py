"""`GET /v1/events`: what the console shows, once a second, as server-sent events.

The metrics are read at most once a second for all listeners together, and not at all while nobody
listens.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse

from service.errors import OverloadedError, ServiceError
from service.faces.access import ServerDep, needs
from service.inference.served import ServedPolicy
from service.monitoring.signals import Reading, log_signals, policy_signals, read
from service.server import Server

router = APIRouter(prefix="/v1", tags=["console"])

_PERIOD_SECONDS: Final = 1.0
_WINDOW_READINGS: Final = 11
"""Rates and quantiles are of the last ten seconds."""
_STALE_SECONDS: Final = 5.0
"""Older readings are of an earlier listener's time."""
_MAX_LISTENERS: Final = 64


class Feed:
    """Owns the last readings and the event made of them, for all who listen."""

    def __init__(self, server: Server, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._clock = clock
        self._readings: deque[Reading] = deque(maxlen=_WINDOW_READINGS)
        self._event = b""
        self._number = 0
        self.listeners = 0

    def latest(self) -> bytes:
        """One event, made anew where the last one is a second old."""
        now = self._clock()
        last = self._readings[-1].at if self._readings else None
        if last is None or now - last >= _PERIOD_SECONDS:
            if last is not None and now - last > _STALE_SECONDS:
                self._readings.clear()
            self._readings.append(read(self._server.metrics.collect(), now))
            self._number += 1
            told = snapshot(self._server, self._readings[0], self._readings[-1])
            self._event = encode_event("snapshot", told, self._number)
        return self._event

    async def listen(self, authorization: bytes | None) -> AsyncIterator[bytes]:
        """Events until the server drains or the key is no longer good, and why."""
        self.listeners += 1
        try:
            while self._server.state in ("starting", "ready"):
                self._server.keys.authorise(authorization, "read")
                yield self.latest()
                await asyncio.sleep(_PERIOD_SECONDS)
            yield encode_event("ended", {"error": "the server is stopping", "code": "not_ready"})
        except ServiceError as error:
            yield encode_event("ended", {"error": str(error), "code": error.code})
        finally:
            self.listeners -= 1

    def refuse_if_full(self) -> None:
        """Raise OverloadedError where as many listen as may."""
        if self.listeners >= _MAX_LISTENERS:
            raise OverloadedError(f"{_MAX_LISTENERS} listen to events already")


@router.get(
    "/events",
    dependencies=[needs("read")],
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def events(
    server: ServerDep,
    request: Request,
    authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> StreamingResponse:
    """All policies' live signals and the state of the log, once a second, until the client goes.

    Events are `snapshot`, and `ended` with `error` and `code` where the server ends the stream.
    """
    feed = feed_of(request)
    feed.refuse_if_full()
    header = None if authorization is None else authorization.encode()
    # Proxies are told not to gather events; browsers not to keep them.
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(feed.listen(header), headers=headers, media_type="text/event-stream")


def feed_of(request: Request) -> Feed:
    """The application's feed."""
    feed: Feed = request.app.state.feed
    return feed


def encode_event(kind: str, data: dict[str, Any], number: int | None = None) -> bytes:
    """One server-sent event; numbers that are not finite become null."""
    name = "" if number is None else f"id: {number}\n"
    return f"event: {kind}\n{name}data: ".encode() + msgspec.json.encode(data) + b"\n\n"


def snapshot(server: Server, before: Reading, after: Reading) -> dict[str, Any]:
    """What the console shows of this moment."""
    return {
        "at": time.time(),
        "window_seconds": after.at - before.at,
        "state": server.state,
        "degraded": server.degradations(),
        "grafana_url": server.settings.grafana_url,
        "ledger_position": len(server.rollout.entries),
        "log": log_signals(before, after) | {"refusal": server.spool.refusal},
        "policies": {
            name: policy_signals(before, after, name) | _facts(server, served)
            for name, served in sorted(server.policies.items())
        },
    }


def _facts(server: Server, served: ServedPolicy) -> dict[str, Any]:
    live = served.batcher.live
    manifest = None if live is None else live.policy.manifest
    profile = None if manifest is None else manifest.profile
    state = server.rollout.state(served.name)
    return {
        "stable": served.live_version,
        "canary": state.canary,
        "pinned": served.batcher.is_pinned,
        "frozen": state.is_frozen,
        "fault": served.fault,
        "q_bound": None if manifest is None else manifest.q_bound,
        "training_return": None if profile is None else profile.episode_return.mean,
        "floor": None if manifest is None else manifest.floor,
        "drift": served.describe()["drift"],
    }
