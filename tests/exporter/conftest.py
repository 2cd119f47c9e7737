import importlib
import warnings

import pytest


@pytest.fixture(autouse=True, scope="session")
def _box2d() -> None:
    """Box2D's generated wrapper warns as it is first imported, and cannot take that as an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module("Box2D")
