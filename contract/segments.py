"""Append-only segment files: frames of records with a checksum, and a tail that may be torn.

A frame is a group of records that became durable together:

    magic u32 | payload length u32 | crc32 u32 | first sequence u64 | records u32 | payload

little-endian; the checksum covers all that follows it; the payload is zstd over MessagePack. A
file is named for its first sequence number. Each folder has one writer.
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
_MAX_PAYLOAD_BYTES: Final = 64 * 1024 * 1024
_MAX_UNPACKED_BYTES: Final = 512 * 1024 * 1024
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
        self._offset = 0
        self._compressor = zstandard.ZstdCompressor(level=1)

    @property
    def next_sequence(self) -> int:
        """The number that the next record gets."""
        return self._next_sequence

    def append(self, records: Sequence[bytes]) -> int:
        """Write one frame, durable only after `sync`; returns its size in bytes.

        Raises:
            OSError: The disk is full or failing; nothing was appended.
        """
        frame = _encode_frame(self._next_sequence, records, self._compressor)
        file = self._segment_for(len(frame))
        try:
            written = 0
            while written < len(frame):
                written += file.write(memoryview(frame)[written:]) or 0
        except OSError:
            file.truncate(self._offset)
            file.seek(self._offset)
            raise
        self._offset += len(frame)
        self._next_sequence += len(records)
        return len(frame)

    def sync(self) -> None:
        """Make everything appended durable.

        Raises:
            OSError: It may not be durable. The segment is given up: after a failed fsync the
                kernel may have dropped the pages, so that a second call would lie.
        """
        if self._file is None:
            return
        try:
            os.fdatasync(self._file.fileno())
        except OSError:
            self._file.close()
            self._file = None
            raise

    def close(self) -> None:
        """Sync and close."""
        self.sync()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _segment_for(self, size: int) -> FileIO:
        if self._file is not None and self._offset and self._offset + size > self._max_bytes:
            self.close()
        if self._file is None:
            path = self._folder / f"{self._next_sequence:020d}{SUFFIX}"
            self._file = FileIO(path, "ab")
            self._offset = self._file.tell()
            sync_directory(self._folder)
        return self._file


def segment_paths(folder: Path) -> list[Path]:
    """A folder's segments, oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def read_frames(path: Path, offset: int = 0) -> Iterator[Frame]:
    """Whole frames of a segment from `offset` on. What is torn or damaged is passed over.

    Damage shows as a gap in the sequence numbers.
    """
    content = path.read_bytes()
    while (start := _find_frame(content, offset)) is not None:
        frame = _decode_frame(content, start)
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

    Only bytes after the last whole frame are cut: they were never acknowledged.
    """
    for path in reversed(segment_paths(folder)):
        end, following = 0, int(path.stem)
        for frame in read_frames(path):
            end, following = frame.end_offset, frame.last_sequence + 1
        if end < path.stat().st_size:
            with path.open("r+b") as file:
                file.truncate(end)
                os.fsync(file.fileno())
        if end:
            return following
        # Nothing whole in it: the crash came before its first frame was written.
        path.unlink()
    return 0


def _encode_frame(
    sequence: int, records: Sequence[bytes], compressor: zstandard.ZstdCompressor
) -> bytes:
    payload = compressor.compress(msgspec.msgpack.encode(list(records)))
    if len(payload) > _MAX_PAYLOAD_BYTES:
        raise ValueError(f"a frame of {len(payload)} bytes is over {_MAX_PAYLOAD_BYTES}")
    checksum = zlib.crc32(payload, zlib.crc32(_CHECKED.pack(sequence, len(records))))
    return _HEADER.pack(_MAGIC, len(payload), checksum, sequence, len(records)) + payload


def _find_frame(content: bytes, offset: int) -> int | None:
    """Offset of the first whole frame at or after `offset`."""
    magic = struct.pack("<I", _MAGIC)
    while (offset := content.find(magic, offset)) != -1:
        if _is_whole(content, offset):
            return offset
        offset += 1
    return None


def _is_whole(content: bytes, offset: int) -> bool:
    if offset + _HEADER.size > len(content):
        return False
    _, length, checksum, sequence, count = _HEADER.unpack_from(content, offset)
    start = offset + _HEADER.size
    if length > _MAX_PAYLOAD_BYTES or start + length > len(content):
        return False
    payload = memoryview(content)[start : start + length]
    return zlib.crc32(payload, zlib.crc32(_CHECKED.pack(sequence, count))) == int(checksum)


def _decode_frame(content: bytes, offset: int) -> Frame:
    _, length, _, sequence, _ = _HEADER.unpack_from(content, offset)
    start = offset + _HEADER.size
    payload = zstandard.ZstdDecompressor().decompress(
        content[start : start + length], max_output_size=_MAX_UNPACKED_BYTES
    )
    return Frame(sequence, _DECODER.decode(payload), start + length)
