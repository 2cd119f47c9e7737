"""A bare probe: the least that answers observations over HTTP from a model, batched by arrival.

No keys, ids, log, metrics, deadline, limits or fallback: what those cost is the difference to it.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import httptools
import msgspec
import numpy as np
import uvloop

from contract.manifest import ACTIONS, OBSERVATIONS, Q_VALUES
from service.inference.policy import open_session

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


class Body(msgspec.Struct):
    """What is read of a request."""

    observations: list[list[float]]


class Batcher:
    """Answers all that arrived in one turn of the event loop with one call of the model."""

    def __init__(self, model: bytes) -> None:
        self._session = open_session(model)
        self._waiting: list[tuple[asyncio.Transport, list[list[float]]]] = []
        self._decode = msgspec.json.Decoder(Body).decode
        self._encode = msgspec.json.Encoder().encode

    def submit(self, transport: asyncio.Transport, body: bytes) -> None:
        """Take a request; its answer goes to the transport."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._answer)
        self._waiting.append((transport, self._decode(body).observations))

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        rows = np.array([row for _, rows in waiting for row in rows], dtype=np.float32)
        actions = self._session.run([ACTIONS, Q_VALUES], {OBSERVATIONS: rows})[0].tolist()
        begin = 0
        for transport, asked in waiting:
            end = begin + len(asked)
            body = self._encode({"actions": actions[begin:end]})
            transport.write(_HEAD % len(body) + body)
            begin = end


class Probe(asyncio.Protocol):
    """One connection."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher

    def connection_made(self, transport: Any) -> None:
        """A client connected."""
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """A part of a request's body."""
        self._body += body

    def on_message_complete(self) -> None:
        """A request is whole."""
        body, self._body = self._body, b""
        self._batcher.submit(self._transport, body)


async def _serve(port: int, model: bytes) -> None:
    batcher = Batcher(model)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Probe(batcher), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), Path(sys.argv[2]).read_bytes()))
