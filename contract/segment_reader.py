"""Reading a spool on from where one was, and removing what has been passed on."""

import os
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Final

from contract.segments import read_frames, segment_paths

SHIPPED_FILE: Final = "shipped"
"""In a producer's folder: the last sequence number that Redis holds, in decimal."""


class SegmentReader:
    """Remembers how far a folder was read, and where in its segments that is."""

    def __init__(self, folder: Path, after: int = -1) -> None:
        self._folder = folder
        self._after = after
        self._reached: tuple[Path | None, int] = (None, 0)

    @property
    def position(self) -> int:
        """Sequence number of the last record that was read."""
        return self._after

    def rewind(self, after: int) -> None:
        """Read again from behind that sequence number."""
        self._after = after
        self._reached = (None, 0)

    def read(self, max_bytes: int, up_to: int | None = None) -> list[tuple[int, bytes]]:
        """(sequence, record) of the frames that follow, until they exceed `max_bytes` together.

        Frames that end behind `up_to` are left. One frame is read however large it is.
        """
        taken: list[tuple[int, bytes]] = []
        size = 0
        paths = segment_paths(self._folder)
        for path, successor in zip_longest(paths, paths[1:]):
            if successor is not None and int(successor.stem) <= self._after + 1:
                continue
            begun, offset = self._reached
            for frame in read_frames(path, offset if path == begun else 0):
                if up_to is not None and frame.last_sequence > up_to:
                    return taken
                for sequence, record in enumerate(frame.records, frame.first_sequence):
                    if sequence > self._after:
                        taken.append((sequence, record))
                        size += len(record)
                self._after = max(self._after, frame.last_sequence)
                self._reached = (path, frame.end_offset)
                if size >= max_bytes:
                    return taken
        return taken

    def read_durable(self, max_bytes: int) -> list[tuple[int, bytes]]:
        """As `read`, of a folder that another process writes: what is returned is on disk.

        Without it a power cut could take back what was passed on, and its numbers would be given
        to other records.
        """
        taken = self.read(max_bytes)
        if taken:
            for path in segment_paths(self._folder):
                sync_file(path)
        return taken


def sync_file(path: Path) -> None:
    """Make durable what anybody has written to a file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def remove_segments(folder: Path, position: int) -> None:
    """Remove the segments that hold nothing behind `position`; the newest stays.

    A segment's successor begins where it ends, and all but the newest are closed.
    """
    for path, successor in pairwise(segment_paths(folder)):
        if int(successor.stem) <= position + 1:
            path.unlink()


def read_shipped(folder: Path) -> int:
    """The last sequence number that Redis holds; -1 where nothing was shipped."""
    try:
        return int((folder / SHIPPED_FILE).read_text(encoding="ascii"))
    except FileNotFoundError:
        return -1
