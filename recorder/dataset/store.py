"""Where datasets lie: a local folder, or any URL that fsspec reads.

    <root>/<policy>/parts/<part id>/{manifest.json, episodes.parquet, steps.parquet, …}
    <root>/<policy>/quarantine/<entry id>.json
    <root>/<policy>/progress.json

A part is there once its manifest is. In a local folder it appears by one rename of a synced
sibling; where nothing can be renamed the manifest is written last.
"""

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from contract.files import make_directory, replace_file, sync_directory, write_synced
from recorder.dataset.manifest import (
    MANIFEST_FILE,
    DatasetBusyError,
    DatasetError,
    PartManifest,
)
from recorder.object_storage import files_at

_PARTS: Final = "parts"


class DatasetStore:
    """The datasets below one root."""

    def __init__(self, url: str | Path) -> None:
        """Look nowhere yet.

        Raises:
            OSError: Nothing here knows such URLs.
        """
        self._files, root = files_at(str(url))
        self._root = root.rstrip("/")
        self._is_local = "file" in self._protocols()

    def policies(self) -> list[str]:
        """Policies that have a dataset here."""
        return [name for name in self._names("") if self.parts(name)]

    def parts(self, policy: str) -> list[PartManifest]:
        """A policy's parts, in the order of their episodes; replaced ones are left out."""
        sealed = [
            PartManifest.decode(content, f"{policy}/{part_id}")
            for part_id in self._names(f"{policy}/{_PARTS}")
            if (content := self._find(_part_file(policy, part_id, MANIFEST_FILE))) is not None
        ]
        replaced = {part_id for part in sealed for part_id in part.replaces}
        current = [part for part in sealed if part.part_id not in replaced]
        return sorted(current, key=lambda part: (part.started_at, part.part_id))

    def replaced_parts(self, policy: str) -> list[str]:
        """Parts that lie here still though another holds their episodes, or unfinished ones."""
        current = {part.part_id for part in self.parts(policy)}
        return [name for name in self._names(f"{policy}/{_PARTS}") if name not in current]

    def seal(self, manifest: PartManifest, files: dict[str, bytes]) -> bool:
        """Make a part visible, whole and for good; False where it is there already."""
        if self._find(_part_file(manifest.policy, manifest.part_id, MANIFEST_FILE)) is not None:
            return False
        contents = files | {MANIFEST_FILE: manifest.encode()}
        if self._is_local:
            self._rename_into_place(manifest, contents)
            return True
        for name, content in contents.items():
            self.write(_part_file(manifest.policy, manifest.part_id, name), content)
        return True

    def read_part_file(self, part: PartManifest, name: str) -> bytes:
        """One file of a part.

        Raises:
            DatasetError: It is missing, or not what was sealed.
        """
        where = f"{part.policy}/{part.part_id}/{name}"
        content = self._find(_part_file(part.policy, part.part_id, name))
        if content is None:
            raise DatasetError(f"{where}: no such file")
        expected = part.files[name]
        if hashlib.sha256(content).hexdigest() != expected.sha256:
            raise DatasetError(
                f"{where}: {len(content)} bytes that are not the {expected.size_bytes} sealed"
            )
        return content

    def remove_part(self, policy: str, part_id: str) -> None:
        """Remove a part: its manifest first, so that none is seen half."""
        folder = self._path(f"{policy}/{_PARTS}/{part_id}")
        manifest = f"{folder}/{MANIFEST_FILE}"
        if self._files.exists(manifest):
            self._files.rm_file(manifest)
        if self._files.exists(folder):
            self._files.rm(folder, recursive=True)

    @contextmanager
    def only_writer(self, policy: str) -> Iterator[None]:
        """Keep other writers of a policy's parts out; only where the store is a local folder.

        Raises:
            DatasetBusyError: There is one.
        """
        if not self._is_local:
            yield
            return
        folder = Path(self._path(policy))
        make_directory(folder)
        with (folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DatasetBusyError(
                    f"{policy}: its dataset is being written by another"
                ) from None
            yield

    def read(self, name: str) -> bytes | None:
        """A small file of the root, such as `<policy>/progress.json`; None where there is none."""
        return self._find(name)

    def write(self, name: str, content: bytes) -> None:
        """Write a small file in one step."""
        path = self._path(name)
        if self._is_local:
            make_directory(Path(path).parent)
            replace_file(Path(path), content)
            return
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._files.pipe_file(path, content)

    def names(self, folder: str) -> list[str]:
        """Names in a folder, sorted; temporary ones are left out."""
        return self._names(folder)

    def _rename_into_place(self, manifest: PartManifest, contents: dict[str, bytes]) -> None:
        folder = Path(self._path(f"{manifest.policy}/{_PARTS}"))
        make_directory(folder)
        temporary = folder / f".{manifest.part_id}.{uuid4().hex}.tmp"
        temporary.mkdir()
        for name, content in contents.items():
            write_synced(temporary / name, content)
        sync_directory(temporary)
        self.remove_part(manifest.policy, manifest.part_id)
        temporary.rename(folder / manifest.part_id)
        sync_directory(folder)

    def _names(self, folder: str) -> list[str]:
        path = self._path(folder)
        self._files.invalidate_cache()
        if not self._files.isdir(path):
            return []
        names = (
            entry.rstrip("/").rpartition("/")[2] for entry in self._files.ls(path, detail=False)
        )
        return sorted(name for name in names if not name.startswith("."))

    def _find(self, name: str) -> bytes | None:
        try:
            content: bytes = self._files.cat_file(self._path(name))
        except FileNotFoundError:
            return None
        return content

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")

    def _protocols(self) -> tuple[str, ...]:
        protocol: Any = self._files.protocol
        return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _part_file(policy: str, part_id: str, name: str) -> str:
    return f"{policy}/{_PARTS}/{part_id}/{name}"
