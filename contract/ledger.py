"""The one rollout state: an append-only list of who did what, when and why.

Aliases, shares, pins and freezes are folds over it. `append` is refused where the list has moved
since its writer looked, which fences a stale writer off. On one box the ledger is a locked file of
JSON lines beside the repository.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from contract.files import sync_directory

LEDGER_FILE = "ledger.jsonl"


class LedgerMovedError(Exception):
    """Somebody appended since the writer looked."""


class LedgerError(Exception):
    """The ledger holds a line that is not an entry."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change, or one fact about a change."""

    action: str
    """`promote`, `rollback`, `pin`, `unpin`, `freeze`, `unfreeze`, `load`, `load_failed`, …"""
    policy: str
    who: str
    why: str
    version: int | None = None
    at: str = ""
    """RFC 3339, UTC; set by `append` where empty."""
    position: int = 0
    """1 for the first entry; set by `append`."""
    key: str | None = None
    """The caller's idempotency key: an entry with a known key is not appended again."""
    details: dict[str, Any] = {}


class FileLedger:
    """A ledger in one file, appended to under a lock by any number of processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: list[Entry] = []
        self._offset = 0

    @property
    def position(self) -> int:
        """Position of the last entry read."""
        return len(self._entries)

    def read_after(self, position: int) -> list[Entry]:
        """Entries with a position above `position`, in order.

        Raises:
            LedgerError: A whole line is not an entry.
        """
        self._catch_up()
        return self._entries[position:]

    def append(self, entry: Entry, after: int) -> Entry:
        """Append durably and return the entry with its position.

        Raises:
            LedgerMovedError: The last position is no longer `after`.
        """
        with self._locked() as descriptor:
            self._catch_up()
            if entry.key is not None:
                known = [past for past in self._entries if past.key == entry.key]
                if known:
                    return known[0]
            if self.position != after:
                raise LedgerMovedError(
                    f"{self._path}: at position {self.position}, expected {after}"
                )
            entry = msgspec.structs.replace(
                entry,
                position=after + 1,
                at=entry.at or datetime.now(UTC).isoformat(timespec="milliseconds"),
            )
            # A writer that died half-way left a line without its end: nobody has read it.
            os.ftruncate(descriptor, self._offset)
            os.pwrite(descriptor, msgspec.json.encode(entry) + b"\n", self._offset)
            os.fsync(descriptor)
            self._catch_up()
            return entry

    @contextmanager
    def _locked(self) -> Iterator[int]:
        is_new = not self._path.exists()
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if is_new:
                sync_directory(self._path.parent)
            yield descriptor
        finally:
            os.close(descriptor)

    def _catch_up(self) -> None:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            return
        whole = content[: content.rfind(b"\n") + 1]
        for line in whole.splitlines():
            try:
                entry = msgspec.json.decode(line, type=Entry)
            except msgspec.DecodeError as error:
                raise LedgerError(f"{self._path}, line {self.position + 1}: {error}") from error
            self._entries.append(entry)
        self._offset += len(whole)


def append_latest(ledger: FileLedger, entry: Entry, attempts: int = 20) -> Entry:
    """Append where no earlier entry could change what this one means (a fact, an operator's no)."""
    for _ in range(attempts):
        ledger.read_after(0)
        try:
            return ledger.append(entry, after=ledger.position)
        except LedgerMovedError:
            continue
    raise LedgerMovedError(f"the ledger moved {attempts} times in a row")
