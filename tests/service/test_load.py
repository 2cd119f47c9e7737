import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from contract.bundle import MANIFEST_FILE, MODEL_FILE
from contract.declaration import DECLARATION_FILE
from contract.heuristics import PythonHeuristic
from contract.ledger import LEDGER_FILE, FileLedger
from tests import builders
from tests.service import models
from tests.service.conftest import declare
from tests.service.running import Running, promote, running, settings_for, wait_until

RIGHT, LEFT = [0.0, 0.0, 0.1, 0.0], [0.0, 0.0, -0.1, 0.0]


def ready(service: Running) -> dict[str, Any]:
    response = service.client.get("/readyz")
    assert response.status_code == 200
    body: dict[str, Any] = response.json()
    return body


def entries(data: Path) -> list[tuple[str, int | None]]:
    ledger = FileLedger(data / "policies" / LEDGER_FILE)
    return [(entry.action, entry.version) for entry in ledger.read_after(0)]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("missing", "manifest.json"),
        ("corrupt", "model.onnx: SHA-256"),
        ("tampered", "manifest.json: SHA-256"),
    ],
)
def test_without_a_sound_bundle_the_heuristic_answers_until_it_is_mended(
    tmp_path: Path, fault: str, said: str
) -> None:
    directory = builders.write_policy(tmp_path / "policies")
    sound = tmp_path / "sound"
    shutil.copytree(directory, sound)
    if fault == "missing":
        shutil.rmtree(directory)
    elif fault == "corrupt":
        content = bytearray((directory / MODEL_FILE).read_bytes())
        content[len(content) // 2] ^= 1
        (directory / MODEL_FILE).write_bytes(content)
    else:
        text = (directory / MANIFEST_FILE).read_text(encoding="utf-8")
        (directory / MANIFEST_FILE).write_text(text.replace("0.99", "0.98"), encoding="utf-8")
    promote(tmp_path)
    with running(settings_for(tmp_path)) as service:
        answer = service.act([LEFT]).json()
        assert answer["actions"] == [1]
        assert answer["answered_by"] == [
            {
                "version": None,
                "variant": "stable",
                "source": "heuristic",
                "reason": "load_failed",
            }
        ]
        told = ready(service)
        assert told["degraded"]
        assert "version 1 does not load" in told["why"][0]
        assert said in told["why"][0]
        (policy,) = service.client.get("/v1/policies").json()["policies"]
        assert (policy["source"], policy["stable"]) == ("heuristic", None)
        assert said in policy["fault"]
        labels = {"policy": "cartpole", "reason": "load_failed"}
        assert service.metric("dqn_policy_degraded", **labels) == 1
        loads = {"policy": "cartpole", "outcome": "failed"}
        assert service.metric("dqn_policy_loads_total", **loads) == 1

        # Several looks later it is still the one failure: nothing has changed to try again.
        time.sleep(0.4)
        assert entries(tmp_path) == [("promote", 1), ("load_failed", 1)]

        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(sound, directory)
        wait_until(lambda: not ready(service)["degraded"], "the mended bundle is taken up")
        assert service.act([LEFT]).json()["actions"] == [0]
        assert service.metric("dqn_policy_degraded", **labels) == 0
        assert (
            service.metric("dqn_policy_info", policy="cartpole", variant="stable", version="1") == 1
        )
    assert entries(tmp_path)[0] == ("promote", 1)
    assert entries(tmp_path)[1] == ("load_failed", 1)
    assert entries(tmp_path)[-1] == ("load", 1)


def test_a_new_version_that_cannot_load_leaves_the_old_one_serving(tmp_path: Path) -> None:
    repository = tmp_path / "policies"
    builders.write_policy(repository)
    models.write_model(repository, models.root_model(), version=2, golden=builders.golden())
    promote(tmp_path)
    with running(settings_for(tmp_path)) as service:
        promote(tmp_path, 2)
        wait_until(lambda: ready(service)["degraded"], "the failure is told of")
        assert "version 2 does not load" in ready(service)["why"][0]
        answer = service.act([LEFT]).json()
        assert answer["actions"] == [0]
        assert (answer["answered_by"][0]["version"], answer["answered_by"][0]["source"]) == (
            1,
            "model",
        )
        promote(tmp_path, 1)
        wait_until(lambda: not ready(service)["degraded"], "what serves is what is wanted")


def test_a_version_that_is_promoted_takes_over(tmp_path: Path) -> None:
    repository = tmp_path / "policies"
    builders.write_policy(repository, profile=builders.profile())
    # The other way round: what was left is right.
    builders.write_policy(
        repository, weights=builders.WEIGHTS[::-1], bias=builders.BIAS[::-1], version=2
    )
    promote(tmp_path)
    with running(settings_for(tmp_path)) as service:
        assert service.act([LEFT, RIGHT]).json()["actions"] == [0, 1]
        promote(tmp_path, 2)
        wait_until(
            lambda: bool(service.act([LEFT, RIGHT]).json()["actions"] == [1, 0]), "version 2"
        )
        labels = {"policy": "cartpole", "variant": "stable"}
        assert service.metric("dqn_policy_info", **labels, version="1") == 0
        assert service.metric("dqn_policy_info", **labels, version="2") == 1
        # It says no maximum, and that of version 1 is not its own.
        maximum = service.metric("dqn_q_value_training_max", **labels)
        assert maximum != maximum


def test_a_policy_is_served_once_its_declaration_can_be_read(tmp_path: Path) -> None:
    declare(tmp_path)
    path = tmp_path / "policies" / "cartpole" / DECLARATION_FILE
    content = path.read_text(encoding="utf-8")
    path.write_text("observation = 7\n", encoding="utf-8")
    with running(settings_for(tmp_path)) as service:
        response = service.client.get("/readyz")
        assert response.status_code == 503
        assert "policy.toml" in response.json()["why"][0]
        path.write_text(content, encoding="utf-8")
        wait_until(lambda: service.client.get("/readyz").status_code == 200, "it is declared")
        assert service.act([LEFT]).json()["actions"] == [1]


@pytest.mark.parametrize("is_allowed", [True, False])
def test_a_function_is_a_heuristic_only_where_the_settings_allow_it(
    tmp_path: Path, is_allowed: bool
) -> None:
    function = "tests.service.heuristics:always_raises"
    declared = builders.declaration(heuristic=PythonHeuristic(function=function))
    builders.write_policy(tmp_path / "policies", declared)
    allowed = (function,) if is_allowed else ()
    with running(settings_for(tmp_path, allowed_heuristics=allowed)) as service:
        response = service.client.get("/readyz")
        assert response.status_code == (200 if is_allowed else 503)
        assert is_allowed or "is not allowed" in response.json()["why"][0]


def test_a_name_may_be_left_out_only_where_one_policy_or_a_default_is_meant(
    tmp_path: Path,
) -> None:
    for policy in ("cartpole", "other"):
        builders.write_policy(tmp_path / "policies", policy=policy)
    with running(settings_for(tmp_path)) as service:
        refused = service.act([LEFT])
        assert refused.status_code == 422
        assert "['cartpole', 'other']" in refused.json()["error"]
        assert service.act([LEFT], policy="other").json()["policy"] == "other"
    with running(settings_for(tmp_path, default_policy="other")) as service:
        assert service.act([LEFT]).json()["policy"] == "other"
