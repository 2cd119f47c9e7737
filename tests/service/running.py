"""A real service on a loopback port: uvicorn with the fast lane, in a thread of the test.

The same application is also served, on a second port, without the lane, as any ASGI server would.
"""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
import uvloop
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from contract.ledger import LEDGER_FILE, Entry, FileLedger, append_latest
from service.app import create_app
from service.pages import Page
from service.server import Server
from service.settings import ServiceSettings
from service.worker import WorkerServer, make_server, serve

WAIT_SECONDS = 60.0
"""Far beyond what anything here takes: only a failure waits so long."""


def settings_for(data: Path, **changes: Any) -> ServiceSettings:
    """Settings of a test: a free port, no reserve of disk, quick looks at the repository."""
    fields: dict[str, Any] = {
        "data": data,
        "port": 0,
        "disk_free_share": 0.0,
        "deadline_ms": 1000.0,
        "reload_seconds": 0.1,
        "spool_commit_seconds": 0.01,
        "drain_seconds": 5.0,
        "drain_notice_seconds": 0.0,
        "keep_alive_seconds": 30.0,
    }
    return ServiceSettings(**(fields | changes))


def promote(data: Path, version: int = 1, policy: str = "cartpole") -> None:
    """Write what an operator's promotion writes."""
    ledger = FileLedger(data / "policies" / LEDGER_FILE)
    entry = Entry(action="promote", policy=policy, version=version, who="test", why="to serve")
    append_latest(ledger, entry)


class Running:
    """A service that answers. `port` has the fast lane, `plain_port` has not."""

    def __init__(self, lane: WorkerServer, port: int, plain_port: int) -> None:
        self.server: Server = lane.worker
        self.app: Any = lane.config.app
        self.connections = lane.server_state.connections
        """Of the fast lane."""
        self.lane = lane
        self.port = port
        self.plain_port = plain_port
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_SECONDS)
        self.plain = httpx.Client(base_url=f"http://127.0.0.1:{plain_port}", timeout=WAIT_SECONDS)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """On which it runs, in its own thread."""
        loop = self.lane._loop
        assert loop is not None
        return loop

    def act(self, observations: Any, **fields: Any) -> httpx.Response:
        """One call of `/v1/actions`."""
        return self.client.post("/v1/actions", json={"observations": observations} | fields)

    def metric(self, name: str, **labels: str) -> float:
        """One sample of `/metrics`."""
        return sample(self.client.get("/metrics").text, name, **labels)

    def connect(self) -> "Connection":
        """A raw socket."""
        return Connection(self.port)


class Connection:
    """A client that says what it likes, byte by byte."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS)
        self._received = b""

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, content: bytes) -> None:
        self.socket.sendall(content)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next response: its status, headers and body."""
        while b"\r\n\r\n" not in self._received:
            self._receive()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
        length = int(headers.get("content-length", "0"))
        while len(self._received) < length:
            self._receive()
        body, self._received = self._received[:length], self._received[length:]
        return int(first.split()[1]), headers, body

    def is_closed(self) -> bool:
        """Whether the server ends the connection, with nothing more said; waits for it."""
        try:
            return not self._received and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _receive(self) -> None:
        content = self.socket.recv(65536)
        if not content:
            raise EOFError(f"closed after {self._received!r}")
        self._received += content


def post(path: str, body: bytes | dict[str, Any], *headers: str, version: str = "1.1") -> bytes:
    """The bytes of a POST with a Content-Length."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/{version}", "host: test", f"content-length: {len(content)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + content


def actions_call(decision_id: str, rows: int = 1) -> bytes:
    """The bytes of a small valid call of `/v1/actions`."""
    body = {"observations": [[0.0, 0.0, 0.1, 0.0]] * rows, "decision_id": decision_id}
    return post("/v1/actions", body)


def sample(exposition: str, name: str, **labels: str) -> float:
    """One sample of a metrics page; KeyError where there is none."""
    for family in families_of(exposition):
        for each in family.samples:
            if each.name == name and each.labels == labels:
                return each.value
    raise KeyError(f"{name}{labels}")


def families_of(exposition: str) -> list[Metric]:
    """A metrics page, parsed."""
    return list(text_string_to_metric_families(exposition))


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Wait for something that happens in another thread or process."""
    until = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < until, f"never came: {what}"
        time.sleep(0.01)


@contextmanager
def running(settings: ServiceSettings, page: Page | None = None) -> Iterator[Running]:
    """Serve until the block ends."""
    app = create_app(settings, page)
    server: Server = app.state.server
    lane = make_server(app)
    config = uvicorn.Config(app, lifespan="off", ws="none", log_config=None, access_log=False)
    plain = uvicorn.Server(config)
    with _listening() as lane_socket, _listening() as plain_socket:
        ports = [each.getsockname()[1] for each in (lane_socket, plain_socket)]

        async def serve_both() -> None:
            beside = asyncio.create_task(plain.serve(sockets=[plain_socket]))
            await serve(lane, [lane_socket])
            plain.should_exit = True
            await beside

        thread = threading.Thread(target=uvloop.run, args=(serve_both(),), name="service")
        thread.start()
        service = Running(lane, *ports)
        try:
            wait_until(lambda: server.state == "ready" and lane.started, "the service is ready")
            yield service
        finally:
            service.client.close()
            service.plain.close()
            plain.should_exit = lane.should_exit = True
            thread.join(WAIT_SECONDS)
        assert not thread.is_alive()


@contextmanager
def _listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening
