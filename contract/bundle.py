"""Reading and writing bundles: proven when read, atomic when written.

A bundle is `<repository>/<policy>/<version>/` with `model.onnx`, `manifest.json`, `golden.npz` and
`card.md`. Whether the model inside may serve is `service.inference.proof`'s question.

The hashes tell damage and mix-ups, not forgery: who can write the folder can write the hashes. What
names a bundle beyond doubt is the `manifest_sha256` that was noted elsewhere.
"""

import io
import os
import re
import shutil
import zipfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from contract.files import make_directory, sync_directory, write_synced
from contract.manifest import Manifest, ManifestError, decode_manifest, encode_manifest

MODEL_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"
GOLDEN_FILE = "golden.npz"
CARD_FILE = "card.md"
MAX_MODEL_BYTES = 64 * 1024 * 1024
_MAX_OTHER_BYTES = 16 * 1024 * 1024
_VERSION = re.compile(r"[1-9][0-9]*")


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
    """Names the bundle: the manifest holds the hash of every file."""
    model: bytes
    golden: Golden


def read_bundle(directory: Path) -> Bundle:
    """Read a bundle into memory and check every hash on the bytes read.

    Raises:
        BundleError: A file is missing, too large, altered or malformed, or the folder is another
            policy's or version's.
    """
    bundle = _read_contents(directory)
    if _VERSION.fullmatch(directory.name):
        _check_place(directory, bundle.manifest)
    return bundle


def write_bundle(
    directory: Path, manifest: Manifest, *, model: bytes, golden: Golden, card: str
) -> Manifest:
    """Write a bundle to `directory`, whole or not at all, and return its manifest with hashes.

    A crash may leave a hidden `.<version>.….tmp` folder, which no reader looks at.

    Raises:
        BundleError: `directory` is there already (versions are immutable) or is another policy's or
            version's, or what was written does not read back.
    """
    _check_place(directory, manifest)
    if directory.exists():
        raise BundleError(f"{directory}: already there; versions are immutable")
    contents = {
        MODEL_FILE: model,
        GOLDEN_FILE: encode_golden(golden),
        CARD_FILE: card.encode(),
    }
    hashes = {name: sha256(content).hexdigest() for name, content in contents.items()}
    manifest, contents[MANIFEST_FILE] = _seal(manifest, hashes)
    temporary = directory.with_name(f".{directory.name}.{uuid4().hex}.tmp")
    try:
        make_directory(directory.parent)
        temporary.mkdir()
        for name, content in contents.items():
            write_synced(temporary / name, content)
        sync_directory(temporary)
        _read_contents(temporary)
        # rename() onto a non-empty folder fails: a racing writer's version is not overwritten.
        temporary.rename(directory)
        sync_directory(directory.parent)
    except OSError as error:
        raise BundleError(f"{directory}: not written: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def versions_in(policy_directory: Path) -> list[int]:
    """Version numbers present, ascending; other names are not versions."""
    try:
        names = [entry.name for entry in os.scandir(policy_directory) if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(name) for name in names if _VERSION.fullmatch(name))


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


def _read_contents(directory: Path) -> Bundle:
    if not (directory / MODEL_FILE).exists() and any(directory.glob("*.pt*")):
        raise BundleError(
            f"{directory}: holds TorchScript, which PyTorch has deprecated and nothing here runs; "
            "export the checkpoint to ONNX with `dqn export`"
        )
    manifest_bytes = _read_file(directory / MANIFEST_FILE, _MAX_OTHER_BYTES)
    try:
        manifest = decode_manifest(manifest_bytes)
    except ManifestError as error:
        raise BundleError(f"{directory}: {error}") from error
    contents = {
        MODEL_FILE: _read_file(directory / MODEL_FILE, MAX_MODEL_BYTES),
        GOLDEN_FILE: _read_file(directory / GOLDEN_FILE, _MAX_OTHER_BYTES),
        CARD_FILE: _read_file(directory / CARD_FILE, _MAX_OTHER_BYTES),
    }
    own_hash = manifest.sha256.get(MANIFEST_FILE, "")
    hashed = contents | {MANIFEST_FILE: manifest_bytes.replace(own_hash.encode(), b"")}
    for name, content in hashed.items():
        expected = manifest.sha256.get(name)
        found = sha256(content).hexdigest()
        if found != expected:
            raise BundleError(
                f"{directory / name}: SHA-256 is {found}, the manifest says {expected}"
            )
    return Bundle(
        manifest=manifest,
        manifest_sha256=sha256(manifest_bytes).hexdigest(),
        model=contents[MODEL_FILE],
        golden=_decode_golden(contents[GOLDEN_FILE], manifest, directory),
    )


def _seal(manifest: Manifest, hashes: dict[str, str]) -> tuple[Manifest, bytes]:
    """The manifest with all hashes, and its bytes; its own is of those bytes without it."""
    unsealed = manifest.model_copy(update={"sha256": hashes | {MANIFEST_FILE: ""}})
    own_hash = sha256(encode_manifest(unsealed)).hexdigest()
    sealed = manifest.model_copy(update={"sha256": hashes | {MANIFEST_FILE: own_hash}})
    return sealed, encode_manifest(sealed)


def _check_place(directory: Path, manifest: Manifest) -> None:
    found = (manifest.policy, str(manifest.version))
    place = directory.absolute()
    expected = (place.parent.name, place.name)
    if found != expected:
        raise BundleError(
            f"{directory}: the manifest says policy {found[0]!r} version {found[1]}, "
            f"the folder is {expected[0]!r} version {expected[1]}"
        )


def _decode_golden(content: bytes, manifest: Manifest, directory: Path) -> Golden:
    path = directory / GOLDEN_FILE
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > _MAX_OTHER_BYTES:
            raise BundleError(f"{path}: unpacks to {unpacked} bytes, over {_MAX_OTHER_BYTES}")
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            golden = Golden(archive["observations"], archive["q_values"])
    except BundleError:
        raise
    # A forged archive fails in a dozen ways, from zlib's to memory for the shape it claims.
    except Exception as error:
        raise BundleError(f"{path}: {error!r}") from error
    rows = len(golden.observations) if golden.observations.ndim else 0
    found = [(array.dtype.str, array.shape) for array in (golden.observations, golden.q_values)]
    expected = [
        (manifest.observation.numpy_dtype.str, (rows, *manifest.observation.shape)),
        (np.dtype(np.float32).str, (rows, manifest.actions.count)),
    ]
    if rows == 0 or found != expected:
        raise BundleError(f"{path}: holds {found}, expected {expected} with at least one row")
    if not np.isfinite(golden.q_values).all():
        raise BundleError(f"{path}: q_values must be finite")
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
