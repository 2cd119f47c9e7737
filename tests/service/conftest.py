"""Services that many tests share: none of these tests changes what they serve."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.declaration import write_declaration
from tests import builders
from tests.service.running import Running, promote, running, settings_for


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service whose linear policy `cartpole` is live, version 1."""
    data = tmp_path_factory.mktemp("service")
    builders.write_policy(data / "policies", profile=builders.profile())
    promote(data)
    with running(settings_for(data)) as started:
        yield started


@pytest.fixture(scope="session")
def without_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that has no bundle: its heuristic answers 1. It starts in no time."""
    data = tmp_path_factory.mktemp("heuristic")
    declare(data)
    with running(settings_for(data, request_timeout_seconds=1.0)) as started:
        yield started


def declare(data: Path) -> None:
    """Declare `cartpole` and give it no bundle."""
    folder = data / "policies" / builders.POLICY
    folder.mkdir(parents=True)
    write_declaration(folder, builders.declaration())
