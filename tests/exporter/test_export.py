import os
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch

from contract.bundle import Bundle, BundleError, read_bundle
from contract.declaration import DeclarationError, write_declaration
from exporter.config import ExportConfig
from exporter.declare import choose_declaration
from exporter.export import export, main
from exporter.verify import ParityError
from service.inference.proof import prove
from tests.exporter.checkpoints import (
    TRAINING_Q_MAXIMUM,
    metadata,
    moments,
    network,
    write_small_checkpoint,
)
from training.checkpoint import NETWORK_FILE

ROOT = Path(__file__).parents[2]
FLAGS = (
    "--policy=pole",
    "--parent=1",
    "--profile-episodes=4",
    "--profile-observations=1",
    "--floor-episodes=5",
)


def config(folder: Path, **changes: object) -> ExportConfig:
    """Of the checkpoint in a folder, into the repository beside it; little is played."""
    fields: dict[str, object] = {
        "checkpoint": folder / "checkpoint",
        "repository": folder / "repository",
        "policy": "pole",
        "profile_episodes": 4,
        "profile_observations": 1,
        "floor_episodes": 5,
    }
    return ExportConfig.model_validate(fields | changes)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint and the repository that it was exported into, as version 1."""
    folder = tmp_path_factory.mktemp("exported")
    write_small_checkpoint(folder / "checkpoint")
    export(config(folder))
    return folder


@pytest.fixture(scope="module")
def bundle(exported: Path) -> Bundle:
    return read_bundle(exported / "repository" / "pole" / "1")


def test_an_exported_bundle_proves_and_answers_as_the_network_does(bundle: Bundle) -> None:
    observed = bundle.golden.observations
    decided = prove(bundle).decide(observed)
    with torch.no_grad():
        q_values = network()(torch.from_numpy(observed)).numpy()
    np.testing.assert_allclose(decided.q_values, q_values, atol=1e-5)
    np.testing.assert_array_equal(decided.actions, q_values.argmax(axis=1))


def test_golden_observations_are_the_environments_own(bundle: Bundle) -> None:
    # CartPole begins within 0.05 of upright and rest.
    first, last = bundle.golden.observations[[0, -1]]
    assert np.abs(first).max() <= 0.05
    assert np.abs(last).max() > 0.05
    assert len(np.unique(bundle.golden.observations, axis=0)) == 16


def test_the_manifest_holds_what_was_measured(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.profile is not None
    assert manifest.profile.episode_return.count == 4
    assert manifest.profile.absolute_q_maximum == TRAINING_Q_MAXIMUM
    assert len(manifest.profile.feature_deciles) == manifest.num_features == 64
    # A random network drops the pole, and the declared heuristic does not.
    assert manifest.floor is not None
    assert manifest.profile.episode_return.mean < 100 < manifest.floor
    assert manifest.q_bound == pytest.approx(105)
    assert manifest.parity is not None
    assert manifest.parity.batches == (1, 7, 64)


def test_the_lineage_names_the_checkpoint_and_not_where_it_lay(
    exported: Path, bundle: Bundle
) -> None:
    lineage = bundle.manifest.lineage
    weights = (exported / "checkpoint" / NETWORK_FILE).read_bytes()
    assert lineage.checkpoint_sha256 == sha256(weights).hexdigest()
    assert lineage.config == {"learning_rate": 0.25}
    assert (lineage.environment, lineage.seed, lineage.training_steps) == ("CartPole-v1", 11, 12345)
    assert lineage.git_revision == "abc123"
    assert lineage.versions["torch"] == "9.8.7"
    assert {"onnx", "onnxruntime", "onnxscript"} <= lineage.versions.keys()


def test_the_card_tells_returns_floor_and_parity(exported: Path, bundle: Bundle) -> None:
    card = (exported / "repository" / "pole" / "1" / "card.md").read_text()
    profile, floor = bundle.manifest.profile, bundle.manifest.floor
    assert profile is not None
    assert card.startswith("# pole v1\n")
    assert f"| episode return | {profile.episode_return.mean:.4g} |" in card
    assert f"**{floor:.1f}**" in card
    assert "push_left" in card
    assert "does better than this version" in card
    assert not re.search(r"\bNone\b", card)


def test_another_process_writes_the_same_model_as_the_next_version(exported: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "exporter", "checkpoint", "--repository=repository", *FLAGS],
        cwd=exported,
        env=os.environ | {"PYTHONHASHSEED": "77", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("pole/2\n")
    first, second = (read_bundle(exported / "repository" / "pole" / name) for name in "12")
    assert second.model == first.model
    assert second.manifest.parent == 1
    assert second.manifest.profile == first.manifest.profile


def test_a_masked_policy_is_exported_with_its_mask(tmp_path: Path) -> None:
    write_small_checkpoint(tmp_path / "checkpoint")
    declared = tmp_path / "declaration.toml"
    declared.write_text('[heuristic]\nkind = "random"\n[actions]\nmasked = true\n')
    masked = read_bundle(export(config(tmp_path, declaration=declared)))
    policy = prove(masked)
    observed = masked.golden.observations
    masks = np.tile([False, True], (len(observed), 1))
    assert set(policy.decide(observed, masks).actions) == {1}
    assert 'name: "action_mask"' in (tmp_path / "repository/pole/config.pbtxt").read_text()


def test_a_network_that_gives_nan_leaves_nothing(tmp_path: Path) -> None:
    broken = network(hidden_sizes=(8,))
    with torch.no_grad():
        broken.layers[0].get_parameter("bias")[3] = torch.nan
    write_small_checkpoint(tmp_path / "checkpoint", broken)
    with pytest.raises(ParityError):
        export(config(tmp_path))
    assert not (tmp_path / "repository").exists()


def test_a_network_that_has_diverged_leaves_nothing(tmp_path: Path) -> None:
    poor = metadata().statistics.model_copy(update={"rewards": moments(0.0, 1e-5)})
    write_small_checkpoint(tmp_path / "checkpoint", statistics=poor)
    with pytest.raises(BundleError, match="diverged"):
        export(config(tmp_path))
    assert not (tmp_path / "repository").exists()


def test_a_declaration_that_disagrees_is_refused_and_stays(tmp_path: Path) -> None:
    write_small_checkpoint(tmp_path / "checkpoint")
    folder = tmp_path / "repository" / "pole"
    folder.mkdir(parents=True)
    (tmp_path / "wanted.toml").write_text('[heuristic]\nkind = "random"\n')
    write_declaration(folder, choose_declaration(metadata(), folder, None))
    before = (folder / "policy.toml").read_bytes()
    with pytest.raises(DeclarationError, match="declares actions"):
        export(config(tmp_path, declaration=tmp_path / "wanted.toml"))
    assert [path.name for path in folder.iterdir()] == ["policy.toml"]
    assert (folder / "policy.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["nowhere", "--repository=repository", "--policy=pole"], 1),
        (["nowhere", "--repository=repository", "--policy=two words"], 2),
    ],
)
def test_a_failure_is_one_sentence_and_a_status(
    arguments: list[str],
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == status
    assert capsys.readouterr().err.startswith("error: ")
    assert list(tmp_path.iterdir()) == []
