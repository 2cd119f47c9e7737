"""One worker process: the application under uvicorn, with the fast lane in front."""

import asyncio
import os
import signal
import socket
import sys
from types import FrameType

import uvicorn
import uvloop

from service.app import create_app
from service.keys import KeysError
from service.lane import close_overdue, fast_lane
from service.logs import configure_logs
from service.pages import Page
from service.server import Server
from service.settings import ServiceSettings

_SWEEP_SECONDS = 0.5
MISCONFIGURED = 2
"""Exit status of a worker that another try would not help."""


class _WorkerServer(uvicorn.Server):
    """uvicorn's server, which tells ours at once that it is going to stop."""

    def __init__(self, config: uvicorn.Config, server: Server) -> None:
        super().__init__(config)
        self._server = server

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came: not ready from now on."""
        self._server.state = "draining"
        super().handle_exit(sig, frame)


def run_worker(
    settings: ServiceSettings, listening: socket.socket, name: str, supervisor_death: int
) -> None:
    """Serve on a listening socket until a signal says stop; does not return.

    The descriptor `supervisor_death` becomes readable when the supervisor is gone: a worker left
    behind would hold the port and the spool.
    """
    configure_logs(settings.log_level, as_json=settings.log_json)
    try:
        app = create_app(settings, Page(settings.pages, name))
    except (KeysError, OSError) as error:
        sys.stderr.write(f"dqn serve: {error}\n")
        sys.exit(MISCONFIGURED)
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
    server = _WorkerServer(config, app.state.server)

    async def serve() -> None:
        asyncio.get_running_loop().add_reader(
            supervisor_death, lambda: os.kill(os.getpid(), signal.SIGTERM)
        )
        sweeper = asyncio.create_task(_sweep(server, settings.request_timeout_seconds))
        try:
            await server.serve(sockets=[listening])
        finally:
            sweeper.cancel()

    uvloop.run(serve())
    sys.exit(0 if server.started else 1)


async def _sweep(server: uvicorn.Server, limit_seconds: float) -> None:
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        close_overdue(server.server_state.connections, limit_seconds)
