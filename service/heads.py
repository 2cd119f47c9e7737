"""Heads of requests that were parsed before.

A client sends the same head with every request, and to parse it costs more than the model does. A
head is learnt only from a parse that found the body to be exactly the bytes behind it, so that what
is looked up is what the parser would say again.
"""

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from service.faces.http import Route
from service.messages import Request

_MAX_HEADS: Final = 4096
_MAX_HEAD_BYTES: Final = 2048
_END: Final = b"\r\n\r\n"


class Head(NamedTuple):
    """What the parser made of the bytes before a hot request's body."""

    route: Route
    path_parameters: tuple[str, ...]
    headers: Sequence[tuple[bytes, bytes]]
    query: bytes
    content_type: bytes

    def request(self, body: bytes) -> Request:
        """The request whose last byte has just come."""
        return Request(
            body,
            self.headers,
            self.query,
            self.path_parameters,
            time.perf_counter(),
            self.content_type,
        )


class KnownHeads:
    """Owns the heads that one worker knows; the oldest makes room for the newest."""

    def __init__(self) -> None:
        self._heads: dict[bytes, tuple[Head, int]] = {}

    def find(self, data: bytes) -> tuple[Head, bytes] | None:
        """Head and body of data that is one whole request with a known head."""
        end = data.find(_END) + len(_END)
        known = self._heads.get(data[:end])
        if known is None or len(data) - end != known[1]:
            return None
        return known[0], data[end:]

    def learn(self, data: bytes, head: Head, body: bytes) -> None:
        """Remember how the head of `data` was parsed, if all that stands behind it is the body."""
        end = data.find(_END) + len(_END)
        if end > _MAX_HEAD_BYTES or not data.startswith(b"POST ") or data[end:] != body:
            return
        if len(self._heads) >= _MAX_HEADS:
            del self._heads[next(iter(self._heads))]
        self._heads[data[:end]] = head, len(body)
