"""Every command and every example of the how-to pages, run as a reader would."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests import builders
from tests.docs.pages import ROOT, run
from tests.exporter.adoption import libraries
from tests.service.process import process
from tests.service.running import promote, wait_until

HOW_TO: Final = ROOT / "docs" / "how-to"

# A page starts several processes one after another, each with libraries of its own to load.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What `dqn run` leaves, made quickly."""
    builders.write_policy(tmp_path / "data" / "policies")
    promote(tmp_path / "data")
    return tmp_path


def test_heuristics_are_tried_as_the_page_says(folder: Path) -> None:
    said = run(HOW_TO / "heuristics.md", folder)
    assert '"reason":"pinned"' in said
    assert re.search(r"^424$", said, flags=re.MULTILINE)


def test_keys_open_what_the_page_says(folder: Path) -> None:
    said = run(HOW_TO / "keys.md", folder)
    assert "403\n" in said
    assert '"who":"alice"' in said
    assert '"source":"model"' in said
    assert "0 faults" in said
    assert "agents-2" in (folder / "data" / "keys").read_text(encoding="utf-8")
    assert "agents " not in (folder / "data" / "keys").read_text(encoding="utf-8")


def test_the_client_s_examples_run_against_a_real_server(folder: Path) -> None:
    said = run(HOW_TO / "client.md", folder)
    assert " model\n" in said


def test_the_kubernetes_page_makes_secrets_and_manifests(folder: Path) -> None:
    run(HOW_TO / "kubernetes.md", folder)
    assert "kind: Secret" in (folder / "dqn-keys.yaml").read_text(encoding="utf-8")
    assert "kind: StatefulSet" in (folder / "production.yaml").read_text(encoding="utf-8")


def test_redis_is_set_up_as_the_page_says_and_the_log_goes_through_it(folder: Path) -> None:
    said = run(HOW_TO / "redis.md", folder, variables={"DQN_SERVE_RECORD": "false"})
    assert "dqn:{cartpole:" in said


def test_a_backup_serves_what_was_served_and_holds_what_was_sealed(folder: Path) -> None:
    with process(
        folder / "data",
        "--record",
        DQN_RECORD_SEAL_SECONDS="0.1",
        DQN_RECORD_METRICS_PORT="0",
    ) as service:
        service.wait_until_ready()
        wait_until(lambda: "recording" in service.log(), "the recorder runs")
        report = {"outcomes": [{"episode_id": "e", "step": 0, "reward": 1.0}]}
        assert service.client.post("/v1/outcomes", json=report).status_code == 200
        assert service.stop() == 0
    run(HOW_TO / "backup.md", folder)


@pytest.mark.timeout(1200)
def test_policies_of_others_are_adopted_and_served_as_the_page_says(tmp_path: Path) -> None:
    libraries.install()
    python = libraries.ENVIRONMENT / "bin" / "python"
    said = run(HOW_TO / "adopt.md", tmp_path, {"stable-baselines3": python})
    assert '"policy":"cartpole"' in said
    assert '"source":"model"' in said
    adopted = {path.parent.name for path in (tmp_path / "data" / "policies").glob("*/policy.toml")}
    assert adopted == {"cartpole", "normalised", "cleanrl", "onnx"}
