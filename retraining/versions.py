"""Versions and the checkpoints they came from, found by hash; and which of them may go."""

import shutil
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from contract.bundle import BundleError, read_bundle, versions_in
from contract.manifest import Manifest
from retraining.state import CycleError
from training.checkpoint import NETWORK_FILE


def network_sha256(checkpoint: Path) -> str:
    """Hash of a checkpoint's network, as a bundle's lineage has it."""
    return sha256((checkpoint / NETWORK_FILE).read_bytes()).hexdigest()


def find_checkpoint(manifest: Manifest, roots: Sequence[Path]) -> Path:
    """The folder of the checkpoint that a version was exported from.

    Args:
        manifest: Of the version.
        roots: Folders below which checkpoints lie.

    Raises:
        CycleError: There is none: without its network a policy cannot learn on.
    """
    wanted = manifest.lineage.checkpoint_sha256
    for root in roots:
        for path in sorted(root.rglob(NETWORK_FILE)):
            if wanted is not None and network_sha256(path.parent) == wanted:
                return path.parent
    raise CycleError(
        f"{manifest.policy} v{manifest.version}: no checkpoint with the hash {wanted} lies below "
        f"{', '.join(map(str, roots))}"
    )


def exported_version(policy_directory: Path, checkpoint_sha256: str) -> int | None:
    """The version that a checkpoint has become already, by a cycle that was cut off."""
    for version in reversed(versions_in(policy_directory)):
        try:
            lineage = read_bundle(policy_directory / str(version)).manifest.lineage
        except BundleError:
            continue
        if (lineage.source, lineage.checkpoint_sha256) == ("retraining", checkpoint_sha256):
            return version
    return None


def expired_versions(retrained: Iterable[int], aliased: Iterable[int], most: int) -> list[int]:
    """Of the versions that retraining made, those beyond the newest `most` that have no alias."""
    kept = set(aliased)
    newest_first = sorted(retrained, reverse=True)
    return sorted(version for version in newest_first[most:] if version not in kept)


def remove_expired(policy_directory: Path, aliased: Iterable[int], most: int) -> list[int]:
    """Remove versions that are kept no longer; returns their numbers."""
    retrained = []
    for version in versions_in(policy_directory):
        try:
            manifest = read_bundle(policy_directory / str(version)).manifest
        except BundleError:
            continue
        if manifest.lineage.source == "retraining":
            retrained.append(version)
    expired = expired_versions(retrained, aliased, most)
    for version in expired:
        # Renamed first: a reader sees a whole version, or none.
        gone = policy_directory / f".{uuid4().hex}.expired"
        (policy_directory / str(version)).rename(gone)
        shutil.rmtree(gone)
    return expired
