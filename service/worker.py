"""One worker process: the application under uvicorn, with the fast lane in front."""

import asyncio
import errno
import gc
import os
import signal
import socket
import sys
from collections.abc import Sequence
from functools import partial
from types import FrameType

import uvicorn
import uvloop
from fastapi import FastAPI

from service.app import create_app
from service.inference.policy import missing_providers
from service.keys import KeysError
from service.lane import close_overdue, fast_lane
from service.logs import configure_logs
from service.pages import Page
from service.server import Place, Server
from service.settings import ServiceSettings

_SWEEP_SECONDS = 0.5
_GC_THRESHOLD = 50_000
_SWITCH_SECONDS = 0.0001
_ACCEPTED_A_TURN = 16
MISCONFIGURED = 2
"""Exit status of a worker that another try would not help."""
_FAILED = 1
_PASSING = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENOMEM,
    errno.EAGAIN,
    errno.EMFILE,
    errno.ENFILE,
    errno.EIO,
)
"""What a machine lacks for a while: the workers that run go on, and this one is tried again."""


class WorkerServer(uvicorn.Server):
    """uvicorn's server, which tells ours at once that it is going to stop."""

    def __init__(self, config: uvicorn.Config, server: Server) -> None:
        super().__init__(config)
        self.worker = server
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve from now on."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came: not ready from now on, and gone once a balancer can have noticed."""
        notice = self.worker.settings.drain_notice_seconds
        if self.worker.state == "ready" and notice > 0 and self._loop is not None:
            self.worker.state = "draining"
            leave = partial(super().handle_exit, sig, frame)
            # A signal handler may run between any two instructions: the loop does the rest.
            self._loop.call_soon_threadsafe(self._loop.call_later, notice, leave)
        else:
            if self.worker.state in ("starting", "ready"):
                # Else listeners to events would be waited for.
                self.worker.state = "draining"
            super().handle_exit(sig, frame)


def run_worker(
    settings: ServiceSettings,
    listening: Sequence[socket.socket],
    place: Place,
    name: str,
    supervisor_death: int,
) -> None:
    """Serve on listening sockets until a signal says stop; does not return.

    A second socket is the one for operators.
    The descriptor `supervisor_death` becomes readable when the supervisor is gone: a worker left
    behind would hold the port and the spool.
    """
    configure_logs(settings.log_level, as_json=settings.log_json)
    missing = missing_providers(settings.execution_providers)
    if missing:
        sys.stderr.write(f"dqn serve: ONNX Runtime has no execution provider {missing[0]!r} here\n")
        sys.exit(MISCONFIGURED)
    try:
        admin_port = None if len(listening) == 1 else listening[1].getsockname()[1]
        app = create_app(settings, Page(settings.pages, name), place, admin_port)
    except (KeysError, OSError) as error:
        sys.stderr.write(f"dqn serve: {error}\n")
        sys.exit(status_of(error))
    server = make_server(app)

    async def watch_and_serve() -> None:
        loop = asyncio.get_running_loop()

        def stop() -> None:
            # Readable for ever from now on: asked once, not on every turn of the loop.
            loop.remove_reader(supervisor_death)
            os.kill(os.getpid(), signal.SIGTERM)

        loop.add_reader(supervisor_death, stop)
        await serve(server, listening)

    # What was made so far lives as long as the process. Requests leave no cycles behind, so that
    # the collector would walk the whole heap, again and again, for nothing.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 50, 100)
    # The log's thread must not keep the event loop waiting for 5 ms at a time.
    sys.setswitchinterval(_SWITCH_SECONDS)
    uvloop.run(watch_and_serve())
    sys.exit(0 if server.started else _FAILED)


def status_of(error: Exception) -> int:
    """With which status a worker ends that could not begin."""
    is_passing = isinstance(error, OSError) and error.errno in _PASSING
    return _FAILED if is_passing else MISCONFIGURED


def make_server(app: FastAPI) -> WorkerServer:
    """Make uvicorn around the application, its fast lane in front."""
    settings = app.state.server.settings
    config = uvicorn.Config(
        app,
        http=fast_lane(app.state.server),
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        timeout_keep_alive=round(settings.keep_alive_seconds),
        timeout_graceful_shutdown=round(settings.drain_seconds),
    )
    return WorkerServer(config, app.state.server)


async def serve(server: WorkerServer, listening: Sequence[socket.socket]) -> None:
    """Serve until the server is told to exit."""
    sweeper = asyncio.create_task(_sweep(server))
    # libuv accepts one connection of a socket in a turn of the loop: beside busy connections the
    # last of two hundred new ones would wait for two hundred batches.
    more = [listening[0].dup() for _ in range(_ACCEPTED_A_TURN - 1)]
    try:
        await server.serve(sockets=[*listening, *more])
    finally:
        sweeper.cancel()


async def _sweep(server: WorkerServer) -> None:
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        settings = server.worker.settings
        close_overdue(
            server.server_state.connections,
            settings.request_timeout_seconds,
            settings.keep_alive_seconds,
        )
        server.worker.metrics.flush()
