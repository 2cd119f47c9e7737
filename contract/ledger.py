"""The one rollout state: an append-only list of who did what, when and why.

Aliases, shares, pins and freezes are folds over it. `append` is refused where the list has moved
since its writer looked, which fences a stale writer off. On one box the ledger is a locked file of
JSON lines beside the repository.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from errno import ENOSPC
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import msgspec

from contract.files import sync_directory

LEDGER_FILE = "ledger.jsonl"


class LedgerMovedError(Exception):
    """Somebody appended since the writer looked."""


class LedgerError(Exception):
    """The ledger holds a line that is not an entry, or is not the one it was."""


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
    """The caller's idempotency key, one per change of a policy."""
    details: dict[str, Any] = {}


class FileLedger:
    """A ledger in one file, appended to under a lock by any number of processes and threads.

    An entry can be read a moment before it is durable. Where the file is replaced by one with
    another past (an old copy restored, say), processes that have acted on what is gone cannot tell
    what holds: every call fails until the process starts anew. Restore with the writers stopped,
    since an `append` that runs meanwhile may go to the file that was replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mutex = Lock()
        self._entries: list[Entry] = []
        self._offset = 0
        self._last_line = b""

    @property
    def generation(self) -> int:
        """Goes up where positions that were read before may hold other entries now: never here."""
        return 0

    @property
    def fault(self) -> str | None:
        """Why what others write is not read: None, for whoever can read the file reads it all."""
        return None

    @property
    def position(self) -> int:
        """Position of the last entry read."""
        return len(self._entries)

    def read_after(self, position: int) -> list[Entry]:
        """Entries with a position above `position`, in order.

        Raises:
            LedgerError: A whole line is not the entry it should be, or the past has changed.
        """
        with self._mutex:
            try:
                with self._path.open("rb") as file:
                    self._catch_up(file.fileno())
            except FileNotFoundError:
                if self._entries:
                    raise LedgerError(f"{self._path}: is gone") from None
            return self._entries[position:]

    def append(self, entry: Entry, after: int) -> Entry:
        """Append durably and return the entry with its position.

        An entry whose policy and key are known is not appended again: the past one is returned.

        Raises:
            LedgerMovedError: The last position is no longer `after`.
            LedgerError: As for `read_after`.
            OSError: It could not be written, or may not be durable. Try again with the same key.
            ValueError: The key was used for another change of this policy.
        """
        with self._mutex, self._locked() as descriptor:
            self._catch_up(descriptor)
            known = self._find_key(entry)
            if known is not None:
                return known
            if self.position != after:
                raise LedgerMovedError(
                    f"{self._path}: at position {self.position}, expected {after}"
                )
            entry = msgspec.structs.replace(
                entry,
                position=after + 1,
                at=entry.at or datetime.now(UTC).isoformat(timespec="milliseconds"),
            )
            self._write(descriptor, [entry])
            return entry

    def adopt(self, entries: Sequence[Entry]) -> None:
        """Take over what another ledger holds, durably; what is known already must be the same.

        Raises:
            LedgerError: The other ledger has another past, or a gap follows what is known.
            OSError: As for `append`.
        """
        with self._mutex, self._locked() as descriptor:
            self._catch_up(descriptor)
            new: list[Entry] = []
            for entry in entries:
                if entry.position <= self.position:
                    if self._entries[entry.position - 1] != entry:
                        raise LedgerError(
                            f"{self._path}: position {entry.position} is another entry elsewhere"
                        )
                elif entry.position == self.position + len(new) + 1:
                    new.append(entry)
                else:
                    raise LedgerError(
                        f"{self._path}: position {entry.position} follows {self.position}"
                    )
            if new:
                self._write(descriptor, new)

    def find_key(self, entry: Entry) -> Entry | None:
        """The entry that was appended under the same policy and key.

        Raises:
            ValueError: The key was used for another change of this policy.
        """
        with self._mutex:
            return self._find_key(entry)

    def _write(self, descriptor: int, entries: Sequence[Entry]) -> None:
        lines = b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)
        # A writer that died half-way left a line without its end: nobody has read it.
        os.ftruncate(descriptor, self._offset)
        if os.pwrite(descriptor, lines, self._offset) != len(lines):
            raise OSError(ENOSPC, os.strerror(ENOSPC), str(self._path))
        os.fsync(descriptor)
        self._catch_up(descriptor)

    def _find_key(self, entry: Entry) -> Entry | None:
        if entry.key is None:
            return None
        for past in self._entries:
            if (past.policy, past.key) == (entry.policy, entry.key):
                if (past.action, past.version) != (entry.action, entry.version):
                    raise ValueError(
                        f"key {entry.key!r} is that of {past.action} {past.version} at position "
                        f"{past.position}, not of {entry.action} {entry.version}"
                    )
                return past
        return None

    @contextmanager
    def _locked(self) -> Iterator[int]:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_size == 0:
                sync_directory(self._path.parent)
            yield descriptor
        finally:
            os.close(descriptor)

    def _catch_up(self, descriptor: int) -> None:
        """Read the lines that were added; the last one known proves that the past is the same."""
        known = len(self._last_line)
        start = self._offset - known
        content = os.pread(descriptor, max(os.fstat(descriptor).st_size - start, 0), start)
        if not content.startswith(self._last_line):
            raise LedgerError(f"{self._path}: is not the ledger it was at position {self.position}")
        whole = content[known : content.rfind(b"\n") + 1]
        lines = whole.splitlines(keepends=True)
        entries = [
            self._decode(line, position) for position, line in enumerate(lines, self.position + 1)
        ]
        self._entries += entries
        self._offset += len(whole)
        self._last_line = lines[-1] if lines else self._last_line

    def _decode(self, line: bytes, position: int) -> Entry:
        try:
            entry = msgspec.json.decode(line, type=Entry)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise LedgerError(f"{self._path}, line {position}: {error}") from error
        if entry.position != position:
            raise LedgerError(
                f"{self._path}, line {position}: says it is position {entry.position}"
            )
        return entry


class Ledger(Protocol):
    """What a ledger does, wherever it is kept."""

    @property
    def generation(self) -> int:
        """Goes up where positions that were read before may hold other entries now."""

    @property
    def fault(self) -> str | None:
        """Why what others write is not read at present."""

    @property
    def position(self) -> int:
        """Position of the last entry read."""

    def read_after(self, position: int) -> list[Entry]:
        """Entries above a position, in order."""

    def append(self, entry: Entry, after: int) -> Entry:
        """Append where the ledger has not moved."""


def append_latest(ledger: Ledger, entry: Entry, attempts: int = 20) -> Entry:
    """Append where no earlier entry could change what this one means (a fact, an operator's no)."""
    for _ in range(attempts):
        ledger.read_after(0)
        try:
            return ledger.append(entry, after=ledger.position)
        except LedgerMovedError:
            continue
    raise LedgerMovedError(f"the ledger moved {attempts} times in a row")
