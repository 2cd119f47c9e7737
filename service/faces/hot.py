"""The calls that the fast lane takes."""

from typing import Final

from service.faces.actions import ACTIONS
from service.faces.http import Route
from service.faces.outcomes import OUTCOMES, TRANSITIONS

HOT_ROUTES: Final[tuple[Route, ...]] = (ACTIONS, OUTCOMES, TRANSITIONS)
_BY_PATH: Final = {route.path.encode(): route for route in HOT_ROUTES}


def find_hot_route(path: bytes) -> Route | None:
    """The hot route at a path, without its query."""
    return _BY_PATH.get(path)
