"""Writing files so that a reader, or a crash, sees the old one or the new one, whole."""

import os
from pathlib import Path
from uuid import uuid4


def replace_file(path: Path, content: bytes) -> None:
    """Write a temporary sibling, fsync it, rename it over `path` and fsync the folder."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        write_synced(temporary, content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def write_synced(path: Path, content: bytes) -> None:
    """Write and fsync one file."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def make_directory(directory: Path) -> None:
    """Make a folder and its parents, durably: fsyncing a file does not keep the folder it is in."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a folder durable: without it a crash can undo a rename."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
