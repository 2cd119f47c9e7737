"""The local durable queue: what was accepted is on disk before anybody is told so.

One thread writes. Decisions are put and forgotten; they become durable in groups, at most
`spool_commit_seconds` later. Outcomes and transitions are acknowledged, so they start a commit at
once, and all that arrives while one fsync runs shares the next.
"""

import asyncio
import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args
from uuid import uuid4

import structlog

from contract.files import sync_directory
from contract.records import Record, encode_record
from contract.segments import SEGMENT_MAX_BYTES, SegmentWriter, recover, segment_paths
from service.errors import ServiceError, SpoolFullError
from service.metrics import Metrics

LOCK_FILE: Final = "owner.lock"
_MAX_WAITING_RECORDS: Final = 20_000
_CLAIMS: Final = 64
_LEAST_SEGMENTS: Final = 8
"""That a full spool consists of."""
_LOOK_SECONDS: Final = 1.0

Done = Callable[[ServiceError | None], None]
"""Told, on the event loop, that records are durable, or why they are not."""

Source = Callable[[], tuple[Sequence[Record], Sequence[Callable[[], None]]]]
"""Gives records, and what is to be called on the event loop once they are on disk."""

Reason = Literal["spool_full", "disk_full", "backlog", "disk_error"]
"""Why records are not accepted."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class SpoolLimits:
    """When the spool commits, and when it accepts nothing more."""

    commit_seconds: float
    max_bytes: int
    disk_free_share: float


@dataclass
class _Waiting:
    records: list[Record] = field(default_factory=list)
    acknowledged: list[tuple[list[Record], Done]] = field(default_factory=list)


class Spool:
    """Owns one producer's folder of segments."""

    def __init__(self, root: Path, limits: SpoolLimits, metrics: Metrics) -> None:
        self.folder, self._lock_descriptor = _claim_producer(root)
        self.producer = self.folder.name
        self._limits = limits
        # The newest segment stays, shipped or not: it must not fill the spool by itself.
        segment_bytes = min(SEGMENT_MAX_BYTES, limits.max_bytes // _LEAST_SEGMENTS)
        self._writer = SegmentWriter(self.folder, recover(self.folder), segment_bytes)
        self._durable = self._writer.next_sequence - 1
        self._waiting = _Waiting()
        self._sources: list[Source] = []
        self._mutex = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._looked_at = 0.0
        self._refusal: Reason | None = None
        self._nearest: Reason = "spool_full"
        self._fullness = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stored = metrics.counter("dqn_records_total", "spooled")
        self._dropped = {
            reason: metrics.counter("dqn_records_dropped_total", reason)
            for reason in get_args(Reason)
        }
        self._bytes = metrics.counter("dqn_spool_bytes")
        self._free = metrics.counter("dqn_disk_free_bytes")
        metrics.counter("dqn_spool_limit_bytes").set(limits.max_bytes)
        self._measure()
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)

    @property
    def durable_sequence(self) -> int:
        """Sequence number of the last record on disk."""
        return self._durable

    @property
    def refusal(self) -> Reason | None:
        """Why nothing is accepted at present, if so."""
        return self._refusal

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to write; acknowledgements arrive on `loop`."""
        self._loop = loop
        self._thread.start()

    def add_source(self, take: Source) -> None:
        """Let something be asked for its records at every commit, on the writer's thread."""
        self._sources.append(take)

    @property
    def fullness(self) -> float:
        """How much of what may be kept is taken, of the cap or of the disk; from 1 nothing is."""
        return self._fullness

    def count_dropped(self, records: int, *, is_backlogged: bool) -> None:
        """Count records that nobody waits for and that are not logged for want of room."""
        self._dropped["backlog" if is_backlogged else self._nearest].add(records)

    def commit_soon(self) -> None:
        """Begin a commit now instead of in its turn."""
        self._wake.set()

    def put(self, record: Record) -> None:
        """Log a record in its turn; where the spool is full it is dropped, and counted."""
        is_backlogged = len(self._waiting.records) >= _MAX_WAITING_RECORDS
        if self._refusal is not None or is_backlogged:
            self.count_dropped(1, is_backlogged=self._refusal is None)
            return
        with self._mutex:
            self._waiting.records.append(record)

    def put_durably(self, records: list[Record], done: Done) -> None:
        """Log records and call `done` once they are on disk.

        Raises:
            SpoolFullError: Nothing more is accepted; nothing was logged.
        """
        if self._refusal is not None or len(self._waiting.acknowledged) >= _MAX_WAITING_RECORDS:
            self._dropped[self._refusal or "backlog"].add(len(records))
            raise SpoolFullError(
                f"the transition log accepts nothing: {self._refusal or 'backlog'}"
            )
        with self._mutex:
            self._waiting.acknowledged.append((records, done))
        self._wake.set()

    def close(self) -> None:
        """Write what is waiting, and let the folder go."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._writer.close()
        os.close(self._lock_descriptor)

    def _run(self) -> None:
        while True:
            self._wake.wait(self._limits.commit_seconds)
            stopping = self._stopping
            self._wake.clear()
            self._commit()
            if time.monotonic() - self._looked_at > _LOOK_SECONDS:
                self._measure()
            if stopping:
                return

    def _commit(self) -> None:
        with self._mutex:
            taken, self._waiting = self._waiting, _Waiting()
        refusal: ServiceError | None = None
        records: list[Record] = []
        on_durable: list[Callable[[], None]] = []
        try:
            # Decisions before the outcomes that may speak of them.
            for take in self._sources:
                made, told = take()
                records += made
                on_durable += told
            records += taken.records
            records += [record for group, _ in taken.acknowledged for record in group]
            if not records:
                return
            size = self._writer.append([encode_record(record) for record in records])
            self._writer.sync()
            self._durable = self._writer.next_sequence - 1
            self._stored.add(len(records))
            self._bytes.add(size)
        except Exception as error:  # noqa: BLE001
            # A full disk most often; but whatever it was, who waits for an acknowledgement is
            # told, and the thread lives on.
            lost = max(len(records), sum(len(group) for group, _ in taken.acknowledged))
            _log.error("spool_write_failed", error=repr(error), records=lost)
            self._dropped["disk_error"].add(lost)
            refusal = SpoolFullError(f"the transition log cannot be written: {error}")
        self._tell(
            on_durable if refusal is None else [], [done for _, done in taken.acknowledged], refusal
        )

    def _tell(
        self,
        on_durable: Sequence[Callable[[], None]],
        waiters: Sequence[Done],
        refusal: ServiceError | None,
    ) -> None:
        if self._loop is None or not (on_durable or waiters):
            return

        def tell() -> None:
            for call in on_durable:
                call()
            for done in waiters:
                done(refusal)

        self._loop.call_soon_threadsafe(tell)

    def _measure(self) -> None:
        """Look at the folder and the disk; decide whether more is accepted."""
        self._looked_at = time.monotonic()
        size = sum(_size_of(path) for path in segment_paths(self.folder))
        disk = shutil.disk_usage(self.folder)
        self._bytes.set(size)
        self._free.set(disk.free)
        of_cap = size / self._limits.max_bytes
        of_disk = disk.total * self._limits.disk_free_share / max(disk.free, 1)
        self._nearest = "spool_full" if of_cap >= min(of_disk, 1.0) else "disk_full"
        self._fullness = max(of_cap, of_disk)
        refusal: Reason | None = self._nearest if self._fullness >= 1.0 else None
        if refusal != self._refusal:
            _log.warning("spool_refuses" if refusal else "spool_accepts", reason=refusal)
        self._refusal = refusal


def _claim_producer(root: Path) -> tuple[Path, int]:
    """Lock a producer's folder that nobody owns, or make one.

    A restarted worker so finds what it left: its torn tail, its sequence numbers, its unshipped
    records.
    """
    root.mkdir(parents=True, exist_ok=True)
    existing = sorted(path for path in root.iterdir() if path.is_dir())
    # Of new names several: a worker that starts beside this one may claim what this one made.
    new = [root / uuid4().hex[:12] for _ in range(_CLAIMS)]
    for folder in [*existing, *new]:
        if folder in new:
            folder.mkdir()
            sync_directory(root)
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return folder, descriptor
        except BlockingIOError:
            os.close(descriptor)
    raise OSError(f"no producer folder could be claimed in {root}")


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
