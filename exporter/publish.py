"""Putting a version into a repository: proven first, then visible, or nothing changed."""

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

from contract.bundle import BundleError, Golden, read_bundle, write_bundle
from contract.declaration import DECLARATION_FILE, PolicyDeclaration, write_declaration
from contract.files import replace_file, sync_directory
from contract.manifest import Manifest
from exporter.triton import CONFIG_FILE
from service.inference.proof import check_declared, inspect_model, prove


def publish(
    policy_directory: Path,
    declaration: PolicyDeclaration,
    manifest: Manifest,
    *,
    model: bytes,
    golden: Golden,
    card: str,
    triton_config: str,
) -> Path:
    """Write a version with what stands beside it; returns its folder.

    The version is read back and proven as a server would, under a hidden name; its rename is the
    last act. What fails before leaves the repository as it was.

    Raises:
        BundleError: The bundle may not serve, or its version number was taken meanwhile.
        OSError: The repository cannot be written.
    """
    directory = policy_directory / str(manifest.version)
    with ExitStack() as undo:
        _make_directory(policy_directory, undo)
        staging = policy_directory / f".{uuid4().hex}.export"
        undo.callback(shutil.rmtree, staging, ignore_errors=True)
        staged = staging / policy_directory.name / directory.name
        write_bundle(staged, manifest, model=model, golden=golden, card=card)
        bundle = read_bundle(staged)
        inspect_model(bundle.model)
        prove(bundle)
        check_declared(bundle, declaration)

        if not (policy_directory / DECLARATION_FILE).exists():
            write_declaration(policy_directory, declaration)
            undo.callback((policy_directory / DECLARATION_FILE).unlink)
        restore_config = _restorer(policy_directory / CONFIG_FILE)
        replace_file(policy_directory / CONFIG_FILE, triton_config.encode())
        undo.callback(restore_config)
        try:
            staged.rename(directory)
        except OSError as error:
            raise BundleError(f"{directory}: not written: {error}") from error
        undo.pop_all()
    shutil.rmtree(staging, ignore_errors=True)
    sync_directory(policy_directory)
    return directory


def _make_directory(directory: Path, undo: ExitStack) -> None:
    """Make a folder and its parents; undone only while nothing else has come into them."""
    for path in (*reversed(directory.parents), directory):
        if not path.exists():
            path.mkdir(exist_ok=True)
            sync_directory(path.parent)
            undo.callback(_remove_if_empty, path)


def _remove_if_empty(directory: Path) -> None:
    if not any(directory.iterdir()):
        directory.rmdir()


def _restorer(path: Path) -> Callable[[], None]:
    """Puts a file back to what it is now."""
    if not path.is_file():
        return path.unlink
    content = path.read_bytes()
    return lambda: replace_file(path, content)
