"""The console at `/` and the calls at `/docs`: pages as files, as they are; there is no build step.

They hold no data, so they need no key: what the page shows it asks of `/v1/…` with the key that its
reader enters.
"""

from pathlib import Path
from typing import Final

from fastapi import APIRouter
from fastapi.responses import FileResponse

from service.errors import UnknownPathError

router = APIRouter(include_in_schema=False)

_FOLDER: Final = Path(__file__).parent.parent / "console"
_TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
# Scripts, styles and connections of this origin alone, nothing inline, and in nobody's frame.
_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    # A release changes these files under the same names.
    "cache-control": "no-cache",
}


@router.get("/")
async def page() -> FileResponse:
    """The page."""
    return _file(_FOLDER / "index.html")


@router.get("/docs")
async def reference() -> FileResponse:
    """What each call takes; made of `/openapi.json` where it is read."""
    return _file(_FOLDER / "reference.html")


@router.get("/console/{path:path}")
async def asset(path: str) -> FileResponse:
    """A style or a script of the page."""
    # Looked up among the files there are, so that no path can lead out of the folder.
    found = {each.relative_to(_FOLDER).as_posix(): each for each in _FOLDER.rglob("*.*")}
    if path not in found or found[path].suffix not in _TYPES:
        raise UnknownPathError("there is nothing at this path")
    return _file(found[path])


def _file(path: Path) -> FileResponse:
    return FileResponse(path, headers=_HEADERS, media_type=_TYPES[path.suffix])
