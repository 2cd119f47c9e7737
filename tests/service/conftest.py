"""Services that many tests share: none of these tests changes what they serve."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.declaration import ActionSpec, ObservationSpec, write_declaration
from tests import builders
from tests.service import models, wire
from tests.service.running import Running, promote, running, settings_for, wait_until


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


@pytest.fixture(scope="session")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Five policies in one server; nobody promoted `unpromoted`, and `root` gives NaN."""
    data = tmp_path_factory.mktemp("several")
    repository = data / "policies"
    masked = builders.declaration(actions=ActionSpec(count=2, masked=True))
    pixels = builders.declaration(observation=ObservationSpec(shape=(2, 3), dtype="uint8"))
    builders.write_policy(repository)
    builders.write_policy(repository, masked, policy="masked")
    builders.write_policy(repository, pixels, policy="pixels", weights=wire.PIXEL_WEIGHTS)
    models.write_model(repository, models.root_model(), models.root_golden(), policy="root")
    for policy in ("cartpole", "masked", "pixels", "root"):
        promote(data, policy=policy)
    builders.write_policy(repository, policy="unpromoted")
    with running(settings_for(data)) as started:
        wait_until(lambda: not started.server.policies["root"].is_degraded, "all are live")
        yield started


def declare(data: Path) -> None:
    """Declare `cartpole` and give it no bundle."""
    folder = data / "policies" / builders.POLICY
    folder.mkdir(parents=True)
    write_declaration(folder, builders.declaration())
