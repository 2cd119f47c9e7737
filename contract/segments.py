"""Append-only segment files: frames of records with a checksum, and a tail that may be torn.

A frame is a group of records that became durable together:

    magic u32 | payload length u32 | crc32 u32 | first sequence u64 | records u32 | payload

little-endian; the checksum covers all that follows it; the payload is zstd over MessagePack. A
file is named for its first sequence number. Each folder has one writer; who removes segments leaves
the newest, since its name carries the numbering on.

The checksum is not keyed: it tells accidents, not forgeries.
"""

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

import msgspec
import zstandard

from contract.files import sync_directory

SEGMENT_MAX_BYTES: Final = 8 * 1024 * 1024
SUFFIX: Final = ".seg"

_MAGIC: Final = 0x314E5144  # "DQN1"
_HEADER: Final = struct.Struct("<IIIQI")
_CHECKED: Final = struct.Struct("<QI")
_FRAME_BYTES: Final = 16 * 1024 * 1024
"""Records beyond so many bytes, unpacked, go to a further frame."""
_MAX_RECORD_BYTES: Final = 64 * 1024 * 1024
_MAX_UNPACKED_BYTES: Final = 2 * _MAX_RECORD_BYTES
_RECORD_OVERHEAD_BYTES: Final = 5
_DECODER: Final = msgspec.msgpack.Decoder(list[bytes])


@dataclass(frozen=True)
class Frame:
    """Records that became durable together."""

    first_sequence: int
    records: list[bytes]
    end_offset: int
    """Where the frame ends in its file."""

    @property
    def last_sequence(self) -> int:
        """Sequence number of the last record."""
        return self.first_sequence + len(self.records) - 1


class SegmentWriter:
    """Owns a folder's newest segment. Not thread-safe: one thread writes.

    A write that fails leaves no trace: the file is cut back to the last whole frame, so that what
    follows is readable.
    """

    def __init__(
        self, folder: Path, next_sequence: int, max_bytes: int = SEGMENT_MAX_BYTES
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._next_sequence = next_sequence
        self._file: FileIO | None = None
        self._full: list[FileIO] = []
        self._offset = 0
        self._compressor = zstandard.ZstdCompressor(level=1)

    @property
    def next_sequence(self) -> int:
        """The number that the next record gets."""
        return self._next_sequence

    def append(self, records: Sequence[bytes]) -> int:
        """Write records, durable only after `sync`; returns their size on disk in bytes.

        Raises:
            OSError: The disk is full or failing; nothing was appended.
            ValueError: One record is too large for a frame; nothing was appended.
        """
        content = _encode_frames(self._next_sequence, records, self._compressor)
        file = self._segment_for(len(content))
        written = 0
        try:
            while written < len(content):
                written += file.write(memoryview(content)[written:]) or 0
        except OSError:
            self._cut_back(file)
            # A reader may have met the whole frames among them: their numbers stay theirs.
            self._next_sequence += _count_records(content[:written])
            raise
        self._offset += len(content)
        self._next_sequence += len(records)
        return len(content)

    def sync(self) -> None:
        """Make everything appended durable.

        Raises:
            OSError: What was appended since the last sync may not be durable, and no later call
                makes it so: after a failed fsync the kernel may have dropped the pages. Its
                segments are given up; their numbers are not used again.
        """
        try:
            for file in (*self._full, self._file):
                if file is not None:
                    os.fdatasync(file.fileno())
        except OSError:
            self._let_go()
            raise
        while self._full:
            self._full.pop().close()

    def close(self) -> None:
        """Sync and close."""
        try:
            self.sync()
        finally:
            self._let_go()

    def _segment_for(self, size: int) -> FileIO:
        if self._file is not None and self._offset and self._offset + size > self._max_bytes:
            # Left for `sync`: a failure here would be told to the wrong caller.
            self._full.append(self._file)
            self._file = None
        if self._file is None:
            file = FileIO(self._folder / f"{self._next_sequence:020d}{SUFFIX}", "ab")
            try:
                sync_directory(self._folder)
            except OSError:
                file.close()
                raise
            self._file, self._offset = file, file.tell()
        return self._file

    def _cut_back(self, file: FileIO) -> None:
        try:
            file.truncate(self._offset)
        except OSError:
            # Readers pass over the rest; what follows goes behind it.
            self._offset = os.fstat(file.fileno()).st_size

    def _let_go(self) -> None:
        for file in (*self._full, self._file):
            if file is not None:
                file.close()
        self._full, self._file = [], None


def segment_paths(folder: Path) -> list[Path]:
    """A folder's segments, oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def read_frames(path: Path, offset: int = 0) -> Iterator[Frame]:
    """Whole frames of a segment from `offset` on. What is torn or damaged is passed over.

    Damage shows as a gap in the sequence numbers. The newest frames may not be durable yet: who
    passes records on asks the writer how far it has synced.
    """
    content = path.read_bytes()
    while (frame := _next_frame(content, offset)) is not None:
        yield frame
        offset = frame.end_offset


def read_records(folder: Path, after: int = -1) -> Iterator[tuple[int, bytes]]:
    """(sequence, record) of a folder in order, from the first sequence above `after`."""
    paths = segment_paths(folder)
    firsts = [int(path.stem) for path in paths]
    for number, path in enumerate(paths):
        is_last = number + 1 == len(paths)
        if not is_last and firsts[number + 1] <= after + 1:
            continue
        for frame in read_frames(path):
            for sequence, record in enumerate(frame.records, frame.first_sequence):
                if sequence > after:
                    yield sequence, record


def recover(folder: Path) -> int:
    """Cut the torn tail of the newest segment and return the next free sequence number.

    Only bytes after the last whole frame are cut. A crash leaves a torn frame there that was never
    acknowledged; an acknowledged last frame that was damaged later looks the same, and is cut too.
    """
    paths = segment_paths(folder)
    if not paths:
        return 0
    newest = paths[-1]
    end, following = 0, int(newest.stem)
    for frame in read_frames(newest):
        end, following = frame.end_offset, max(following, frame.last_sequence + 1)
    if end < newest.stat().st_size:
        with newest.open("r+b") as file:
            file.truncate(end)
            os.fsync(file.fileno())
    return following


def _encode_frames(
    sequence: int, records: Sequence[bytes], compressor: zstandard.ZstdCompressor
) -> bytes:
    frames = bytearray()
    start = 0
    while start < len(records):
        size = len(records[start]) + _RECORD_OVERHEAD_BYTES
        if size > _MAX_RECORD_BYTES:
            raise ValueError(f"a record of {size} bytes is over {_MAX_RECORD_BYTES}")
        end = start + 1
        while end < len(records) and size + len(records[end]) <= _FRAME_BYTES:
            size += len(records[end]) + _RECORD_OVERHEAD_BYTES
            end += 1
        frames += _encode_frame(sequence + start, records[start:end], compressor)
        start = end
    return bytes(frames)


def _encode_frame(
    sequence: int, records: Sequence[bytes], compressor: zstandard.ZstdCompressor
) -> bytes:
    payload = compressor.compress(msgspec.msgpack.encode(list(records)))
    checksum = zlib.crc32(payload, zlib.crc32(_CHECKED.pack(sequence, len(records))))
    return _HEADER.pack(_MAGIC, len(payload), checksum, sequence, len(records)) + payload


def _count_records(content: bytes) -> int:
    """Records in the whole frames at the start of a torn write."""
    count = offset = 0
    while (frame := _frame_at(content, offset)) is not None:
        count, offset = count + len(frame.records), frame.end_offset
    return count


def _next_frame(content: bytes, offset: int) -> Frame | None:
    """The first whole frame at or after `offset`."""
    magic = struct.pack("<I", _MAGIC)
    while (offset := content.find(magic, offset)) != -1:
        frame = _frame_at(content, offset)
        if frame is not None:
            return frame
        offset += 1
    return None


def _frame_at(content: bytes, offset: int) -> Frame | None:
    start = offset + _HEADER.size
    if start > len(content):
        return None
    _, length, checksum, sequence, count = _HEADER.unpack_from(content, offset)
    payload = memoryview(content)[start : start + length]
    if len(payload) != length:
        return None
    if zlib.crc32(payload, zlib.crc32(_CHECKED.pack(sequence, count))) != checksum:
        return None
    try:
        if zstandard.frame_content_size(payload) > _MAX_UNPACKED_BYTES:
            return None
        records = _DECODER.decode(zstandard.ZstdDecompressor().decompress(payload))
    except (zstandard.ZstdError, msgspec.DecodeError):
        return None
    return Frame(sequence, records, start + length) if len(records) == count else None
