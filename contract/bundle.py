"""Reading and writing bundles: proven when read, atomic when written.

A bundle is `<repository>/<policy>/<version>/` with `model.onnx`, `manifest.json`, `golden.npz` and
`card.md`. Whether the model inside may serve is `service.inference.proof`'s question.
"""

import io
import os
import shutil
import zipfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from contract.files import sync_directory, write_synced
from contract.manifest import Manifest, ManifestError, decode_manifest, encode_manifest

MODEL_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"
GOLDEN_FILE = "golden.npz"
CARD_FILE = "card.md"
MAX_MODEL_BYTES = 64 * 1024 * 1024
_MAX_OTHER_BYTES = 16 * 1024 * 1024


class BundleError(Exception):
    """A bundle is missing, altered, or not what its manifest says."""


@dataclass(frozen=True)
class Golden:
    """A few observations with the Q-values they must give."""

    observations: npt.NDArray[Any]
    """[N, *shape] in the spec's dtype."""
    q_values: npt.NDArray[np.float32]
    """[N, num_actions]."""


@dataclass(frozen=True)
class Bundle:
    """A bundle's contents, read once: the hashes were checked on these very bytes."""

    manifest: Manifest
    manifest_sha256: str
    """Names the bundle: the manifest holds the hash of every other file."""
    model: bytes
    golden: Golden


def read_bundle(directory: Path) -> Bundle:
    """Read a bundle into memory and check every hash on the bytes read.

    Raises:
        BundleError: A file is missing, too large, altered or malformed.
    """
    manifest_bytes = _read_file(directory / MANIFEST_FILE, _MAX_OTHER_BYTES)
    try:
        manifest = decode_manifest(manifest_bytes)
    except ManifestError as error:
        raise BundleError(f"{directory}: {error}") from error
    contents = {
        MODEL_FILE: _read_file(directory / MODEL_FILE, MAX_MODEL_BYTES),
        GOLDEN_FILE: _read_file(directory / GOLDEN_FILE, _MAX_OTHER_BYTES),
    }
    for name, content in contents.items():
        expected = manifest.sha256.get(name)
        found = sha256(content).hexdigest()
        if found != expected:
            raise BundleError(
                f"{directory / name}: SHA-256 is {found}, the manifest says {expected}"
            )
    if directory.name.isdecimal() and int(directory.name) != manifest.version:
        raise BundleError(f"{directory}: the manifest says version {manifest.version}")
    return Bundle(
        manifest=manifest,
        manifest_sha256=sha256(manifest_bytes).hexdigest(),
        model=contents[MODEL_FILE],
        golden=_decode_golden(contents[GOLDEN_FILE], manifest, directory),
    )


def write_bundle(
    directory: Path, manifest: Manifest, *, model: bytes, golden: Golden, card: str
) -> Manifest:
    """Write a bundle to `directory`, whole or not at all, and return its manifest with hashes.

    Raises:
        BundleError: `directory` is there already: versions are immutable.
    """
    if directory.exists():
        raise BundleError(f"{directory}: already there; versions are immutable")
    contents = {
        MODEL_FILE: model,
        GOLDEN_FILE: encode_golden(golden),
        CARD_FILE: card.encode(),
    }
    hashes = {name: sha256(content).hexdigest() for name, content in contents.items()}
    manifest = manifest.model_copy(update={"sha256": hashes})
    contents[MANIFEST_FILE] = encode_manifest(manifest)
    temporary = directory.with_name(f".{directory.name}.{uuid4().hex}.tmp")
    temporary.mkdir(parents=True)
    try:
        for name, content in contents.items():
            write_synced(temporary / name, content)
        sync_directory(temporary)
        # rename() onto a non-empty folder fails: a racing writer's version is not overwritten.
        temporary.rename(directory)
    except OSError as error:
        raise BundleError(f"{directory}: not written: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync_directory(directory.parent)
    return manifest


def versions_in(policy_directory: Path) -> list[int]:
    """Version numbers present, ascending; other names are not versions."""
    if not policy_directory.is_dir():
        return []
    names = (entry.name for entry in os.scandir(policy_directory) if entry.is_dir())
    return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))


def encode_golden(golden: Golden) -> bytes:
    """The bytes of `golden.npz`; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("observations", "q_values"):
            array = io.BytesIO()
            np.save(array, getattr(golden, name), allow_pickle=False)
            # A fixed date: numpy's own savez stamps the time of writing into the archive.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), array.getvalue())
    return buffer.getvalue()


def _decode_golden(content: bytes, manifest: Manifest, directory: Path) -> Golden:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            golden = Golden(archive["observations"], archive["q_values"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(f"{directory / GOLDEN_FILE}: {error}") from error
    rows = len(golden.observations)
    found = (golden.observations.shape[1:], golden.observations.dtype, golden.q_values.shape)
    expected = (
        manifest.observation.shape,
        manifest.observation.numpy_dtype,
        (rows, manifest.actions.count),
    )
    if rows == 0 or found != expected:
        raise BundleError(f"{directory / GOLDEN_FILE}: holds {found}, expected {expected}")
    return golden


def _read_file(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from error
    if len(content) > limit:
        raise BundleError(f"{path}: larger than {limit} bytes")
    return content
