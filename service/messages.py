"""A request in, a reply out, an error as a reply: what every way in speaks of."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from service.errors import ServiceError

JSON: Final = b"application/json"
MSGPACK: Final = b"application/msgpack"
OCTET_STREAM: Final = b"application/octet-stream"


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


class ErrorBody(msgspec.Struct):
    """Every error, whatever went wrong: two strings."""

    error: str
    code: str


def error_reply(error: ServiceError) -> Reply:
    """The one shape that errors have."""
    body = msgspec.json.encode(ErrorBody(str(error), error.code))
    return Reply(error.status, body, headers=error.headers)
