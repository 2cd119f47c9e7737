"""Raw shards: the sealed transition log of one policy, numbered and immutable.

A shard is one file, `<shards>/<policy>/raw/<number>.shard`:

    line 1   its manifest, as JSON
    after    blocks, each: length u32 little-endian | zstd over MessagePack

A policy's shards are numbered from 1 without gaps. One becomes visible by taking the next number
with a hard link, which fails where the number is taken, and its manifest says how far every
producer is sealed: records and position so appear in one step, and of two sealers that hold the
same records one finds the number taken, reads what the other sealed and leaves it out.

Who removes old shards leaves the newest, since it carries the numbering and the positions on.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from itertools import count, groupby, takewhile
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import zstandard

from contract.records import Record, decode_record

SUFFIX: Final = ".shard"
UNNAMED: Final = "_unnamed"
"""Stands for the policy of records that name none; no policy can be called so."""
DEAD_LETTERS: Final = "_dead-letters"
"""Stands for the policy of records that do not decode."""

CLOCKS_DIFFER_SECONDS: Final = 60.0
"""Between who dates a record and who seals it, at most."""

FORMAT_VERSION: Final = 1
_BLOCK_BYTES: Final = 4 * 1024 * 1024
_MAX_UNPACKED_BYTES: Final = 256 * 1024 * 1024
_LEVEL: Final = 3
_LENGTH: Final = struct.Struct("<I")


class ShardError(Exception):
    """A shard is not whole, or not what its manifest says."""


class Entry(NamedTuple):
    """One record as its producer wrote it. (producer, partition, sequence) names it for ever."""

    producer: str
    partition: int | None
    """Of the stream it came through; a record may have a part in several. None from a spool."""
    sequence: int
    content: bytes


class Range(msgspec.Struct, frozen=True):
    """What a shard holds of one producer and partition."""

    producer: str
    partition: int | None
    first: int
    last: int
    records: int


class Position(msgspec.Struct, frozen=True):
    """How far a producer is sealed."""

    sequence: int
    time: float
    """Unix seconds at which it was sealed."""


class ShardManifest(msgspec.Struct, frozen=True):
    """What a shard holds, and how far the log is sealed with it."""

    format_version: int
    policy: str
    number: int
    sealed_at: float
    """Unix seconds."""
    sealed_by: str
    records: int
    first_time: float
    """Of the earliest record, Unix seconds."""
    last_time: float
    ranges: list[Range]
    schema_hashes: list[str]
    positions: dict[str, Position]
    """Lane (see `lane_of`) to the last sequence number sealed, in this shard or an earlier one."""
    body_bytes: int
    sha256: str
    """Of all that follows the manifest's line."""


class _Block(msgspec.Struct, array_like=True, frozen=True):
    producer: str
    partition: int | None
    sequences: list[int]
    records: list[bytes]


_MANIFEST_DECODER: Final = msgspec.json.Decoder(ShardManifest)
_BLOCK_DECODER: Final = msgspec.msgpack.Decoder(_Block)


def raw_folder(shards: Path, policy: str) -> Path:
    """Where a policy's raw shards are."""
    return shards / policy / "raw"


def shard_path(folder: Path, number: int) -> Path:
    """The file of a shard."""
    return folder / f"{number:012d}{SUFFIX}"


def shard_numbers(folder: Path, after: int = 0) -> list[int]:
    """The numbers of a folder's shards above `after`, ascending; empty without a folder."""
    if after and shard_path(folder, after).exists():
        # A folder may hold a month of shards, and is asked every few seconds.
        following = takewhile(lambda each: shard_path(folder, each).exists(), count(after + 1))
        if found := list(following):
            return found
    numbers = (int(path.stem) for path in folder.glob(f"[0-9]*{SUFFIX}"))
    return sorted(number for number in numbers if number > after)


def sealed_policies(shards: Path) -> list[str]:
    """Policies that have shards; `UNNAMED` and `DEAD_LETTERS` are not among them."""
    return sorted(
        path.parent.name
        for path in shards.glob("*/raw")
        if path.parent.name not in (UNNAMED, DEAD_LETTERS)
    )


def lane_of(producer: str, partition: int | None) -> str:
    """Names what is in the order of its sequence numbers: `<producer>` or `<producer>/<n>`."""
    return producer if partition is None else f"{producer}/{partition}"


def is_sealed(positions: dict[str, Position], entry: Entry) -> bool:
    """Whether an entry stands at or below the position of its producer.

    A spool that was read directly and is shipped from then on offers some records by both ways:
    what was sealed whole is sealed in every partition.
    """
    lanes = {lane_of(entry.producer, None), lane_of(entry.producer, entry.partition)}
    return any(lane in positions and entry.sequence <= positions[lane].sequence for lane in lanes)


def read_manifest(path: Path) -> ShardManifest:
    """A shard's first line.

    Raises:
        ShardError: It is no manifest.
    """
    with path.open("rb") as file:
        return _parse_manifest(str(path), file.readline())


def read_entries(path: Path) -> Iterator[Entry]:
    """All entries of a shard, each producer's in order; the whole file is checked first.

    Raises:
        ShardError: The file is not what was sealed.
    """
    return decode_shard(str(path), path.read_bytes())[1]


def read_records(path: Path) -> Iterator[tuple[str, int, Record]]:
    """(producer, sequence, record) of a shard. Parts of one record share both.

    Raises:
        ShardError: The file is not what was sealed.
    """
    for entry in read_entries(path):
        yield entry.producer, entry.sequence, decode_record(entry.content)


def encode_shard(manifest: ShardManifest, body: bytes) -> bytes:
    """A whole shard."""
    return msgspec.json.encode(manifest) + b"\n" + body


def decode_shard(name: str, content: bytes) -> tuple[ShardManifest, Iterator[Entry]]:
    """A shard's manifest and its entries, once all of it was checked.

    Raises:
        ShardError: The content is not what was sealed.
    """
    line, _, body = content.partition(b"\n")
    manifest = _parse_manifest(name, line)
    if hashlib.sha256(body).hexdigest() != manifest.sha256:
        raise ShardError(f"{name}: the records are not those that were sealed")
    return manifest, _decode_blocks(body)


def encode_blocks(entries: Iterable[Entry]) -> bytes:
    """A shard's body, of entries that stand together by producer and partition."""
    compressor = zstandard.ZstdCompressor(level=_LEVEL)
    body = bytearray()
    for (producer, partition), lane in groupby(
        entries, key=lambda entry: (entry.producer, entry.partition)
    ):
        for block in _cut(lane):
            packed = compressor.compress(
                msgspec.msgpack.encode(
                    _Block(
                        producer,
                        partition,
                        [each.sequence for each in block],
                        [each.content for each in block],
                    )
                )
            )
            body += _LENGTH.pack(len(packed)) + packed
    return bytes(body)


def _decode_blocks(body: bytes) -> Iterator[Entry]:
    decompressor = zstandard.ZstdDecompressor()
    offset = 0
    while offset < len(body):
        (length,) = _LENGTH.unpack_from(body, offset)
        offset += _LENGTH.size
        packed = memoryview(body)[offset : offset + length]
        block = _BLOCK_DECODER.decode(decompressor.decompress(packed, _MAX_UNPACKED_BYTES))
        offset += length
        for sequence, content in zip(block.sequences, block.records, strict=True):
            yield Entry(block.producer, block.partition, sequence, content)


def _cut(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    block: list[Entry] = []
    size = 0
    for entry in entries:
        if block and size + len(entry.content) > _BLOCK_BYTES:
            yield block
            block, size = [], 0
        block.append(entry)
        size += len(entry.content)
    if block:
        yield block


def _parse_manifest(name: str, line: bytes) -> ShardManifest:
    try:
        manifest = _MANIFEST_DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ShardError(f"{name}: the first line is no manifest: {error}") from error
    if manifest.format_version != FORMAT_VERSION:
        raise ShardError(
            f"{name}: expected format {FORMAT_VERSION}, found {manifest.format_version}"
        )
    return manifest
