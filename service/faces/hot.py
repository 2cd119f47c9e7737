"""The calls that the fast lane takes."""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from service.faces.actions import ACTIONS
from service.faces.http import Route
from service.faces.inference_protocol import INFER, INFER_VERSION
from service.faces.outcomes import OUTCOMES, TRANSITIONS
from service.faces.steps import STEPS

HOT_ROUTES: Final[tuple[Route, ...]] = (
    ACTIONS,
    STEPS,
    OUTCOMES,
    TRANSITIONS,
    INFER,
    INFER_VERSION,
)
_PLAIN: Final = {route.path.encode(): (route, ()) for route in HOT_ROUTES}
_PATTERNS: Final = tuple(
    (re.compile(re.sub(r"\{\w+\}", r"([^/]+)", route.path).encode()), route)
    for route in HOT_ROUTES
    if "{" in route.path
)


def find_hot_route(path: bytes) -> tuple[Route, tuple[str, ...]] | None:
    """The hot route at a path without its query, and the parameters in the path."""
    found = _PLAIN.get(path)
    if found is not None:
        return found
    for pattern, route in _PATTERNS:
        match = pattern.fullmatch(path)
        if match is not None:
            # A path that is not UTF-8 names nothing: the ordinary routes say so.
            return route, tuple(
                unquote_to_bytes(part).decode("utf-8", "replace") for part in match.groups()
            )
    return None
