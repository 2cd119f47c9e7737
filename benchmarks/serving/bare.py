"""A bare protocol that parses HTTP and answers a constant: what no Python server gets under."""

import asyncio
import sys

import httptools
import uvloop

_BODY = (
    b'{"policy":"mlp","decision_id":"0123456789ab-0123456789a-0","actions":[1],'
    b'"propensities":[1.0],"answered_by":[{"version":1,"variant":"stable","source":"model",'
    b'"reason":null}]}'
)
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(_BODY),
    _BODY,
)


class Bare(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._transport.write(_ANSWER)  # type: ignore[attr-defined]  # it is a Transport


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
