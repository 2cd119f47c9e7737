from pathlib import Path

import pytest

from contract.bundle import versions_in
from contract.manifest import Lineage
from retraining.state import CycleError
from retraining.versions import (
    expired_versions,
    exported_version,
    find_checkpoint,
    network_sha256,
    remove_expired,
)
from tests.builders import POLICY, manifest, write_policy
from tests.exporter.checkpoints import network, write_small_checkpoint


def lineage(source: str, checkpoint_sha256: str = "0" * 64) -> Lineage:
    return Lineage(
        created_at="2025-01-01T00:00:00Z", source=source, checkpoint_sha256=checkpoint_sha256
    )


def test_the_newest_and_the_aliased_versions_are_kept() -> None:
    assert expired_versions([2, 5, 3, 9, 7], aliased=[2], most=2) == [3, 5]
    assert expired_versions([2, 3], aliased=[], most=2) == []


def test_versions_that_retraining_did_not_make_are_never_removed(tmp_path: Path) -> None:
    for version in range(1, 7):
        source = "training" if version == 2 else "retraining"
        write_policy(tmp_path, version=version, lineage=lineage(source))
    directory = tmp_path / POLICY
    assert remove_expired(directory, aliased=[1], most=2) == [3, 4]
    assert versions_in(directory) == [1, 2, 5, 6]
    assert [path.name for path in directory.glob(".*")] == []


def test_a_checkpoint_is_found_by_the_hash_in_its_version_s_lineage(tmp_path: Path) -> None:
    write_small_checkpoint(tmp_path / "a" / "one", network(hidden_sizes=(4,)))
    wanted = write_small_checkpoint(tmp_path / "b" / "deep" / "two", network(hidden_sizes=(6,)))
    promised = manifest(lineage=lineage("training", network_sha256(wanted)))
    assert find_checkpoint(promised, [tmp_path / "a", tmp_path / "b"]) == wanted
    with pytest.raises(CycleError, match="no checkpoint with the hash"):
        find_checkpoint(promised, [tmp_path / "a"])


def test_what_a_checkpoint_has_become_is_found_by_its_hash(tmp_path: Path) -> None:
    write_policy(tmp_path, version=1, lineage=lineage("training", "a" * 64))
    write_policy(tmp_path, version=2, lineage=lineage("retraining", "b" * 64))
    assert exported_version(tmp_path / POLICY, "b" * 64) == 2
    assert exported_version(tmp_path / POLICY, "a" * 64) is None
