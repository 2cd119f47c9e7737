"""Workers of one box hand each other the episodes that they own.

The stack of an episode's frames lives in one worker, while the kernel gives a connection to any.
A step that reaches another is sent over a Unix socket to the owner and its reply is sent back. An
owner that does not answer is stood in for: the heuristic says `no_history` rather than nobody.
"""

import asyncio
import contextlib
import struct
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Final, cast

import msgspec

from contract.streams import partition_of
from service.messages import Reply, Request, Respond

_LENGTH: Final = struct.Struct("<I")
_RETRY_SECONDS: Final = 0.2

Handle = Callable[[Request, Respond], None]


class _Asked(msgspec.Struct, array_like=True):
    number: int
    body: bytes
    headers: list[tuple[bytes, bytes]]
    path_parameters: tuple[str, ...]
    arrived_at: float
    """`time.perf_counter()` of the sender: one clock for all processes of a machine."""
    content_type: bytes


class _Answered(msgspec.Struct, array_like=True):
    number: int
    status: int
    body: bytes
    content_type: bytes
    headers: tuple[tuple[str, str], ...]


class _Framed(asyncio.Protocol):
    """Messages with their length in front; `take` gets each."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._received = bytearray()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # By name alone: uvloop's transports are not asyncio's.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while len(self._received) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._received)[0]
            if len(self._received) < end:
                return
            message = bytes(self._received[_LENGTH.size : end])
            del self._received[:end]
            self._take(message)

    def send(self, message: msgspec.Struct) -> None:
        """Send one message; nothing where the connection is gone."""
        if self.transport is not None and not self.transport.is_closing():
            content = msgspec.msgpack.encode(message)
            self.transport.write(_LENGTH.pack(len(content)) + content)


class _Incoming(_Framed):
    """A sibling that asks."""

    def __init__(self, handle: Handle) -> None:
        super().__init__(self._answer)
        self._handle = handle

    def _answer(self, message: bytes) -> None:
        asked = msgspec.msgpack.decode(message, type=_Asked)

        def respond(reply: Reply) -> None:
            self.send(
                _Answered(asked.number, reply.status, reply.body, reply.content_type, reply.headers)
            )

        request = Request(
            asked.body,
            asked.headers,
            b"",
            asked.path_parameters,
            asked.arrived_at,
            asked.content_type,
        )
        self._handle(request, respond)


class _Outgoing(_Framed):
    """A sibling that is asked."""

    def __init__(self) -> None:
        super().__init__(self._pass_on)
        self._numbers = count()
        self._asked: dict[int, tuple[Respond, Callable[[], None]]] = {}

    @property
    def is_open(self) -> bool:
        """It can be asked."""
        return self.transport is not None and not self.transport.is_closing()

    def ask(self, request: Request, respond: Respond, stand_in: Callable[[], None]) -> None:
        """Send a request; `respond` gets its reply, or `stand_in` is called if there is none."""
        number = next(self._numbers)
        self._asked[number] = (respond, stand_in)
        self.send(
            _Asked(
                number,
                request.body,
                list(request.headers),
                request.path_parameters,
                request.arrived_at,
                request.content_type,
            )
        )

    def _pass_on(self, message: bytes) -> None:
        answered = msgspec.msgpack.decode(message, type=_Answered)
        respond, _ = self._asked.pop(answered.number)
        respond(Reply(answered.status, answered.body, answered.content_type, answered.headers))

    def connection_lost(self, error: Exception | None) -> None:
        asked, self._asked = self._asked, {}
        for _, stand_in in asked.values():
            stand_in()


class Siblings:
    """Owns this worker's end of the sockets between the workers of a box."""

    def __init__(self, folder: Path, slot: int, num_workers: int) -> None:
        self._folder = folder
        self._slot = slot
        self._num_workers = num_workers
        self._outgoing: dict[int, _Outgoing] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._server: asyncio.Server | None = None

    async def start(self, handle: Handle) -> None:
        """Listen, and keep a connection to every sibling; a worker that is alone does neither."""
        if self._num_workers == 1:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(self._slot)
        # Left by the worker that had this slot before.
        path.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Incoming(handle), str(path))
        self._tasks = [
            loop.create_task(self._keep_connected(slot))
            for slot in range(self._num_workers)
            if slot != self._slot
        ]

    async def wait_for_first(self, seconds: float) -> None:
        """Wait until the worker in slot 0 is ready too, but not for ever.

        It takes connections from the start: until it can answer them, a probe must not be told
        by another that all is well.
        """
        until = time.monotonic() + seconds
        while self._slot and not self._path(0).exists() and time.monotonic() < until:
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Let the sockets go."""
        for task in self._tasks:
            task.cancel()
        for outgoing in self._outgoing.values():
            if outgoing.transport is not None:
                outgoing.transport.close()
        if self._server is not None:
            self._server.close()

    def owner_of(self, episode_id: str) -> int:
        """The worker in which an episode's frames live."""
        return partition_of(episode_id) % self._num_workers

    def hand_over(
        self, episode_id: str, request: Request, respond: Respond, stand_in: Callable[[], None]
    ) -> bool:
        """Let the owner answer; False where the episode is this worker's own to answer."""
        owner = self.owner_of(episode_id)
        outgoing = self._outgoing.get(owner)
        if owner == self._slot or outgoing is None or not outgoing.is_open:
            return False
        outgoing.ask(request, respond, stand_in)
        return True

    async def _keep_connected(self, slot: int) -> None:
        loop = asyncio.get_running_loop()
        while True:
            outgoing = self._outgoing.get(slot)
            if outgoing is None or not outgoing.is_open:
                with contextlib.suppress(OSError):
                    _, made = await loop.create_unix_connection(_Outgoing, str(self._path(slot)))
                    self._outgoing[slot] = made
            await asyncio.sleep(_RETRY_SECONDS)

    def _path(self, slot: int) -> Path:
        return self._folder / f"worker-{slot}.sock"
