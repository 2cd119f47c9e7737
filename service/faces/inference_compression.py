"""Compressed bodies of the Open Inference Protocol: gzip, and deflate in its zlib framing."""

import zlib
from typing import Final

from service.errors import MalformedBodyError, PayloadTooLargeError, UnsupportedEncodingError

_WINDOW_BITS: Final = {b"gzip": 31, b"deflate": 15}
"""As zlib names the framings."""
_LEVEL: Final = 1
_WORTHWHILE_BYTES: Final = 1024
"""A smaller answer fits one packet anyway."""


def decompress(body: bytes, encoding: bytes | None, max_bytes: int) -> bytes:
    """The body as it was before its Content-Encoding.

    Raises:
        UnsupportedEncodingError: Neither gzip nor deflate.
        PayloadTooLargeError: Over `max_bytes` once decompressed; no more than that is made.
        MalformedBodyError: It is not what the header says, is cut short or goes on.
    """
    name = (encoding or b"identity").strip().lower()
    if name == b"identity":
        return body
    if name not in _WINDOW_BITS:
        raise UnsupportedEncodingError(
            f"Content-Encoding: expected gzip or deflate, found {name[:32].decode('latin-1')!r}"
        )
    stream = zlib.decompressobj(_WINDOW_BITS[name])
    try:
        content = stream.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise MalformedBodyError(f"the body is not {name.decode()}: {error}") from error
    if len(content) > max_bytes:
        raise PayloadTooLargeError(
            f"the body is over the limit of {max_bytes} bytes once decompressed"
        )
    if not stream.eof or stream.unused_data:
        found = "goes on behind its end" if stream.eof else "is cut short"
        raise MalformedBodyError(f"the {name.decode()} body {found}")
    return content


def compress(body: bytes, accepted: bytes | None) -> tuple[bytes, str | None]:
    """The body as the client's Accept-Encoding wants it, and the Content-Encoding to say."""
    if accepted is None or len(body) < _WORTHWHILE_BYTES:
        return body, None
    for part in accepted.lower().split(b","):
        name, _, weight = (word.strip() for word in part.partition(b";"))
        # `q=0` and `q=0.000` say that it is not accepted.
        if name in _WINDOW_BITS and weight.rstrip(b".0") != b"q=":
            stream = zlib.compressobj(_LEVEL, wbits=_WINDOW_BITS[name])
            return stream.compress(body) + stream.flush(), name.decode()
    return body, None
