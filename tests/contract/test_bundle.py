import io
import os
import shutil
import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from contract import bundle
from contract.bundle import (
    GOLDEN_FILE,
    MANIFEST_FILE,
    BundleError,
    Golden,
    encode_golden,
    read_bundle,
    versions_in,
    write_bundle,
)
from contract.declaration import ObservationSpec
from contract.manifest import decode_manifest, encode_manifest
from tests.builders import POLICY, declaration, golden, linear_model, manifest, write_policy
from tests.contract.crash import dies_at

FILES = ("card.md", "golden.npz", "manifest.json", "model.onnx")


def write(directory: Path, **changes: object) -> None:
    arguments = {"model": b"a model", "golden": golden(), "card": "# card\n"} | changes
    promised = manifest(version=int(directory.name))
    write_bundle(directory, promised, **arguments)  # type: ignore[arg-type]


def rewrite(directory: Path, name: str, content: bytes) -> None:
    """Replace a file and mend every hash, as somebody who can write the folder may."""
    (directory / name).write_bytes(content)
    hashes = {file: sha256((directory / file).read_bytes()).hexdigest() for file in FILES}
    promised = decode_manifest((directory / MANIFEST_FILE).read_bytes())
    blank = promised.model_copy(update={"sha256": hashes | {MANIFEST_FILE: ""}})
    hashes[MANIFEST_FILE] = sha256(encode_manifest(blank)).hexdigest()
    sealed = promised.model_copy(update={"sha256": hashes})
    (directory / MANIFEST_FILE).write_bytes(encode_manifest(sealed))


def test_bundle_gives_back_what_was_written(tmp_path: Path) -> None:
    directory = write_policy(tmp_path)
    found = read_bundle(directory)
    assert found.model == linear_model()
    assert sorted(os.listdir(directory)) == list(FILES)
    assert found.manifest.model_copy(update={"sha256": {}}) == manifest()
    assert sorted(found.manifest.sha256) == list(FILES)
    np.testing.assert_array_equal(found.golden.observations, golden().observations)
    np.testing.assert_array_equal(found.golden.q_values, golden().q_values)


def test_write_returns_the_manifest_that_is_read(tmp_path: Path) -> None:
    directory = tmp_path / POLICY / "1"
    written = write_bundle(directory, manifest(), model=b"m", golden=golden(), card="")
    assert read_bundle(directory).manifest == written


def test_equal_goldens_give_equal_bytes() -> None:
    assert encode_golden(golden()) == encode_golden(golden())


@pytest.mark.parametrize("name", FILES)
def test_a_byte_altered_anywhere_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / POLICY / "1")
    path = tmp_path / POLICY / "1" / name
    content = path.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 200)):
        altered = bytearray(content)
        altered[place] ^= 1
        path.write_bytes(altered)
        with pytest.raises(BundleError):
            read_bundle(path.parent)
    path.write_bytes(content)
    read_bundle(path.parent)


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    directory = write_policy(tmp_path)
    (directory / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: No such file"):
        read_bundle(directory)


def test_oversize_model_is_refused_when_written_and_when_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / POLICY / "1", model=b"x" * 1001)
    monkeypatch.setattr(bundle, "MAX_MODEL_BYTES", 1000)
    with pytest.raises(BundleError, match=r"model.onnx: larger than 1000 bytes"):
        read_bundle(tmp_path / POLICY / "1")
    with pytest.raises(BundleError, match=r"model.onnx: larger than 1000 bytes"):
        write(tmp_path / POLICY / "2", model=b"x" * 1001)
    write(tmp_path / POLICY / "3", model=b"x" * 1000)
    assert versions_in(tmp_path / POLICY) == [1, 3]


def test_folder_of_another_version_or_policy_is_refused(tmp_path: Path) -> None:
    directory = write_policy(tmp_path, version=3)
    for other in (tmp_path / POLICY / "4", tmp_path / "lunarlander" / "3"):
        shutil.copytree(directory, other)
        with pytest.raises(BundleError, match=r"says policy 'cartpole' version 3, the folder is"):
            read_bundle(other)
    with pytest.raises(BundleError, match=r"version 1, the folder is 'cartpole' version 5"):
        write_bundle(tmp_path / POLICY / "5", manifest(), model=b"m", golden=golden(), card="")


@pytest.mark.parametrize(
    "wrong",
    [
        Golden(np.zeros((5, 3), np.float32), np.zeros((5, 2), np.float32)),
        Golden(np.zeros((5, 4), np.float64), np.zeros((5, 2), np.float32)),
        Golden(np.zeros((5, 4), np.float32), np.zeros((5, 3), np.float32)),
        Golden(np.zeros((5, 4), np.float32), np.zeros((4, 2), np.float32)),
        Golden(np.zeros((5, 4), np.float32), np.zeros((5, 2))),  # type: ignore[arg-type]
        Golden(np.zeros((0, 4), np.float32), np.zeros((0, 2), np.float32)),
        Golden(np.zeros((), np.float32), np.zeros((0, 2), np.float32)),
        Golden(np.zeros((5, 4), np.float32), np.full((5, 2), np.nan, np.float32)),
    ],
)
def test_golden_that_does_not_fit_is_refused(tmp_path: Path, wrong: Golden) -> None:
    directory = write_policy(tmp_path)
    rewrite(directory, GOLDEN_FILE, encode_golden(wrong))
    with pytest.raises(BundleError, match=r"golden.npz: (holds .*, expected|q_values must be)"):
        read_bundle(directory)
    with pytest.raises(BundleError, match=r"golden.npz"):
        write(tmp_path / POLICY / "2", golden=wrong)
    assert versions_in(tmp_path / POLICY) == [1]


def archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def npy(shape: str, dtype: str = "'<f4'") -> bytes:
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + b"1234"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        archive(observations=npy("(1, 1)")),
        archive(observations=npy("(1, 1)", "'|O'"), q_values=npy("(1, 1)")),
        archive(observations=npy("(1000000, 1000000)"), q_values=npy("(1, 1)")),
        archive(observations=npy("(9,"), q_values=npy("(1, 1)")),
        archive(observations=bytes(17 * 1024 * 1024), q_values=npy("(1, 1)")),
    ],
)
def test_forged_golden_is_a_bundle_error(tmp_path: Path, content: bytes) -> None:
    directory = write_policy(tmp_path)
    rewrite(directory, GOLDEN_FILE, content)
    with pytest.raises(BundleError, match=r"golden.npz"):
        read_bundle(directory)


def test_version_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    directory = write_policy(tmp_path)
    with pytest.raises(BundleError, match="already there; versions are immutable"):
        write(directory, model=b"another model")
    assert read_bundle(directory).model == linear_model()


def test_writer_that_loses_a_race_leaves_the_winner_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = write_policy(tmp_path)
    # The check passes, as it does for a writer that looked before the other's rename.
    monkeypatch.setattr(Path, "exists", lambda _: False)
    with pytest.raises(BundleError, match="not written"):
        write(directory, model=b"another model")
    monkeypatch.undo()
    assert read_bundle(directory).model == linear_model()
    assert sorted(os.listdir(directory.parent)) == ["1", "policy.toml"]


def test_crash_at_any_operation_leaves_a_whole_version_or_none(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    first = write_policy(repository)
    second = first.with_name("2")
    found: list[list[int]] = []
    operation = 1
    while dies_at(lambda: write(second), tmp_path, operation):
        found.append(versions_in(first.parent))
        for version in found[-1]:
            read_bundle(first.with_name(str(version)))
        shutil.rmtree(second, ignore_errors=True)
        operation += 1
    assert versions_in(first.parent) == [1, 2]
    assert found[0] == [1]
    assert found[-1] == [1, 2]
    assert len(found) > 8


def test_failing_write_is_a_bundle_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / POLICY).write_bytes(b"a file where the policy's folder should be")
    with pytest.raises(BundleError, match="not written"):
        write(tmp_path / POLICY / "1")


def test_only_plain_positive_integers_are_versions(tmp_path: Path) -> None:
    assert versions_in(tmp_path / "absent") == []
    for name in ("10", "9", "0", "03", "-1", "1.5", ".7.abc.tmp", "²", "٣", "latest"):
        (tmp_path / name).mkdir()
    (tmp_path / "11").write_bytes(b"")
    assert versions_in(tmp_path) == [9, 10]
    assert versions_in(tmp_path / "11") == []


def test_bundle_of_frames_keeps_their_dtype(tmp_path: Path) -> None:
    declared = declaration(observation=ObservationSpec(shape=(4,), dtype="uint8"))
    found = read_bundle(write_policy(tmp_path, declared))
    assert found.golden.observations.dtype == np.uint8


def test_torchscript_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"PK")
    with pytest.raises(BundleError, match="TorchScript, which PyTorch has deprecated"):
        read_bundle(tmp_path)
