import importlib
import warnings


def pytest_configure() -> None:
    """Import Box2D first: its generated wrapper warns, and crashes where a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module("Box2D")
