"""Where a worker's metrics live: a memory-mapped page of numbers that outlives the worker.

Any worker can add all pages up, so that `/metrics` is one true answer whoever gives it, and a
killed worker's counts stay. A page is `<name>.page` (float64 slots) beside `<name>.keys` (one line
a series: where it lies). The keys file is locked by its owner while it lives.
"""

import fcntl
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

NUM_SLOTS: Final = 64 * 1024
_BYTES: Final = NUM_SLOTS * 8

SeriesKey = tuple[str, ...]
"""Family, then label values."""


class _Line(msgspec.Struct, array_like=True):
    key: SeriesKey
    offset: int
    size: int


@dataclass(frozen=True)
class StoredSeries:
    """One series of one page, as read."""

    key: SeriesKey
    values: npt.NDArray[np.float64]
    is_alive: bool
    """Its worker is running: a dead one's gauges mean nothing."""


class Page:
    """One worker's numbers. Without a folder they are this process's alone."""

    def __init__(self, folder: Path | None = None, name: str = "page") -> None:
        self._folder = folder
        self._name = name
        self._next = 0
        self._lines: list[_Line] = []
        self._keys_file: int | None = None
        if folder is None:
            self._map = mmap.mmap(-1, _BYTES)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self._keys_file = os.open(
                folder / f"{name}.keys", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
            )
            # Waits: another worker's scrape may hold it for the moment of a read.
            fcntl.flock(self._keys_file, fcntl.LOCK_EX)
            os.ftruncate(self._keys_file, 0)
            with (folder / f"{name}.page").open("w+b") as file:
                # Reserved and not sparse: on a full disk a write to the map would kill the worker.
                os.posix_fallocate(file.fileno(), 0, _BYTES)
                self._map = mmap.mmap(file.fileno(), _BYTES)
        self._numbers = np.frombuffer(self._map, dtype=np.float64)

    def allocate(self, key: SeriesKey, size: int) -> npt.NDArray[np.float64]:
        """Zeroed numbers for a new series, [size]; writing to them is publishing."""
        if self._next + size > NUM_SLOTS:
            raise MemoryError(f"the metrics page is full at {key}")
        line = _Line(key, self._next, size)
        self._next += size
        self._lines.append(line)
        if self._keys_file is not None:
            os.write(self._keys_file, msgspec.json.encode(line) + b"\n")
        return self._numbers[line.offset : line.offset + size]

    def read_all(self) -> Iterator[StoredSeries]:
        """Every series of this page, then of every other page in the folder."""
        for line in self._lines:
            yield StoredSeries(line.key, self._numbers[line.offset : line.offset + line.size], True)
        if self._folder is None:
            return
        for keys_path in sorted(self._folder.glob("*.keys")):
            if keys_path.stem != self._name:
                yield from _read_page(keys_path)

    def close(self) -> None:
        """Let the keys file go; the numbers stay readable to others."""
        if self._keys_file is not None:
            os.close(self._keys_file)
            self._keys_file = None


def _read_page(keys_path: Path) -> Iterator[StoredSeries]:
    try:
        with keys_path.open("rb") as file:
            is_alive = not _try_lock(file.fileno())
            lines = file.read().split(b"\n")[:-1]
        numbers = np.fromfile(keys_path.with_suffix(".page"), dtype=np.float64)
    except FileNotFoundError:
        return
    for line in lines:
        series = msgspec.json.decode(line, type=_Line)
        yield StoredSeries(
            series.key, numbers[series.offset : series.offset + series.size], is_alive
        )


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
