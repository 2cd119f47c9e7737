"""Calls that a browser makes for a page of another site: refused, since nobody here asked for them.

A page can post to any address that its reader's machine reaches, and a server without keys on the
loopback is reached by whoever sits before it. Browsers say for whom they ask.
"""

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from service.errors import ForbiddenError
from service.settings import ServiceSettings

HARMLESS_METHODS: Final = ("GET", "HEAD", "OPTIONS")
"""Change nothing, and what they answer a browser keeps from other sites' pages."""
_OWN: Final = (b"same-origin", b"none")


def refuse_other_sites(headers: Iterable[tuple[bytes, bytes]], settings: ServiceSettings) -> None:
    """Raise ForbiddenError where a page of another site sends what changes something.

    Args:
        headers: Lower-case names and values.
        settings: With keys all may pass, since no browser sends a key of its own accord. A server
            for this machine alone believes only pages of the machine's own names: another's name
            may have come to mean this machine since the page was loaded.
    """
    if settings.keys_file is not None:
        return
    said = dict(headers)
    origin = said.get(b"origin")
    if origin is None and b"sec-fetch-site" not in said:
        # Not a browser.
        return
    host = said.get(b"host", b"")
    own = said.get(b"sec-fetch-site")
    is_own = own in _OWN if own is not None else origin is not None and _authority(origin) == host
    if not is_own or not (settings.insecure or _names_this_machine(host)):
        raise ForbiddenError("a page of another site may not call this")


def _authority(origin: bytes) -> bytes:
    return origin.partition(b"://")[2]


def _names_this_machine(host: bytes) -> bool:
    try:
        name = urlsplit(f"//{host.decode('latin-1')}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False
