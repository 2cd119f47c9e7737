import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import operate, rollout
from tests import builders
from tests.service.running import Running, promote, running, settings_for, wait_until


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("verbs")


@pytest.fixture(scope="module")
def service(data: Path) -> Iterator[Running]:
    builders.write_policy(data / "policies", profile=builders.profile(), floor=9.5)
    promote(data)
    with running(settings_for(data)) as started:
        wait_until(lambda: started.client.get("/v1/policies/cartpole").json()["stable"] == 1, "1")
        yield started


@pytest.fixture
def flags(service: Running) -> list[str]:
    return ["cartpole", "--server", str(service.client.base_url)]


def test_a_version_is_pushed_tried_watched_and_aborted(
    service: Running,
    data: Path,
    flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle = builders.write_policy(tmp_path, version=2)
    repository = ["--repository", str(data / "policies")]
    push = [*flags, "2", "--why", "better", "--bundle", str(bundle), *repository]
    assert rollout.push(push) == 0
    assert (data / "policies" / "cartpole" / "2" / "model.onnx").exists()
    assert rollout.push(push) == 1
    assert "never written twice" in capsys.readouterr().err

    assert rollout.canary([*flags, "2", "--plan", "--episodes-per-hour", "1000"]) == 0
    told = capsys.readouterr().out
    assert "a share of 0.01: 30 canary episodes, of about 3,000 in all: about 3 h" in told
    assert service.client.get("/v1/policies/cartpole/rollout").json()["canary"] is None

    stages = tmp_path / "stages.toml"
    stages.write_text('mode = "auto"\n[[stages]]\nshare = 0.2\n[[stages]]\nshare = 0.4\n')
    start = [*flags, "2", "--stages", str(stages), "--why", "better"]
    assert rollout.canary(start) == 0
    capsys.readouterr()
    assert rollout.canary(flags) == 0
    told = capsys.readouterr().out
    assert "2 against 1, canary" in told
    assert "[0.2]  0.4   (auto)" in told
    assert "undecided: no episode has been compared yet" in told
    assert rollout.canary([*flags, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["share"] == 0.2

    assert rollout.pause([*flags, "--why", "lunch"]) == 0
    assert rollout.resume([*flags, "--why", "back"]) == 0
    assert rollout.shadow([*flags, "2", "--share", "0.3", "--why", "look"]) == 0
    assert rollout.abort([*flags, "--why", "enough"]) == 0
    state = service.client.get("/v1/policies/cartpole/rollout").json()
    assert (state["canary"], state["shadow"], state["rollout"]["outcome"]) == (
        None,
        None,
        "aborted",
    )


def test_a_bundle_of_another_version_is_not_pushed(
    data: Path, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = builders.write_policy(tmp_path, version=7)
    more = ["--bundle", str(bundle), "--repository", str(data / "policies")]
    assert rollout.push([*flags, "8", "--why", "x", *more]) == 1
    assert "is cartpole 7" in capsys.readouterr().err
    assert not (data / "policies" / "cartpole" / "8").exists()


def test_what_the_server_refuses_is_told_and_fails(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rollout.canary([*flags, "9", "--why", "x"]) == 1
    assert "version 9 may not serve" in capsys.readouterr().err
    foul = tmp_path / "stages.toml"
    foul.write_text("colour = 1\n")
    assert rollout.canary([*flags, "2", "--why", "x", "--stages", str(foul)]) == 1
    assert "colour" in capsys.readouterr().err
    assert operate.rollback([*flags, "--to", "9", "--why", "x"]) == 1
    shutil.rmtree(tmp_path)


def test_a_rollback_is_told_to_each_replica_that_is_named(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        builders.write_policy(folder / "policies")
        builders.write_policy(folder / "policies", version=2)
        promote(folder)
        promote(folder, 2)
    # Cut off from one another: neither would hear of it from the other's ledger.
    with running(settings_for(folders[0])) as one, running(settings_for(folders[1])) as two:
        path = "/v1/policies/cartpole"
        both = (one, two)
        wait_until(lambda: all(each.client.get(path).json()["stable"] == 2 for each in both), "2")
        urls = [str(each.client.base_url) for each in both]
        rollback = ["cartpole", "--to", "1", "--why", "reward fell", "--all-replicas"]
        assert operate.rollback([*rollback, *urls]) == 0
        assert [each.client.get(path).json()["stable"] for each in both] == [1, 1]
        # One that does not answer is told of, and the others are told all the same.
        assert operate.rollback(
            ["cartpole", "--to", "2", *rollback[3:], "http://127.0.0.1:9", urls[1]]
        )
        assert two.client.get(path).json()["stable"] == 2
