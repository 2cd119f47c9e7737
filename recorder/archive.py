"""A spool put away elsewhere, as raw shards, while the way to the log is cut off; and taken back.

An archive is a folder of any file system that fsspec knows:

    <url>/<policy>/<producer>-<first>-<last>.shard

What is put away is gone from the spool, and counts as shipped there. Taken back it may come after
later records of the same producer: what the log holds already is then looked up record by record.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from contract.files import replace_file
from contract.segment_reader import SHIPPED_FILE
from recorder.object_storage import files_at
from recorder.seal import group_by_policy, read_sealable
from recorder.shard_log import Sealable, ShardLog, describe
from recorder.shards import (
    SUFFIX,
    Entry,
    Range,
    ShardManifest,
    decode_shard,
    encode_blocks,
    encode_shard,
    read_entries,
    read_manifest,
    shard_numbers,
    shard_path,
)
from recorder.sources import SpoolSource

_ARCHIVED_BY: Final = "archive"
_BATCH_BYTES: Final = 64 * 1024**2


def put_away(folder: Path, url: str, now: float) -> int:
    """Move what waits in a producer's folder, which nobody writes, to `url`; how many records.

    Raises:
        OSError: The rest is still in the spool.
    """
    source, num_records = SpoolSource(folder), 0
    while entries := source.read(_BATCH_BYTES):
        for policy, sealables in group_by_policy(entries).items():
            _write(url, policy, folder.name, sealables, now)
        # Told before the segments go: the owner to come must not look for these numbers.
        replace_file(folder / SHIPPED_FILE, str(source.position).encode())
        source.trim()
        num_records += len(entries)
    return num_records


def shipped_parts(url: str) -> dict[str, int]:
    """Of producers that had begun to ship: the highest number of each in an archive.

    Raises:
        OSError: It cannot be read.
        ShardError: A file is damaged.
    """
    files, root = files_at(url)
    last: dict[str, int] = {}
    for path in sorted(files.glob(f"{root}/*/*{SUFFIX}")):
        manifest, _ = decode_shard(path, files.cat_file(path))
        for each in manifest.ranges:
            if each.partition is not None:
                last[each.producer] = max(each.last, last.get(each.producer, -1))
    return last


def take_back(url: str, shards: Path, now: float) -> int:
    """Seal an archive's records into the log and remove it; how many were new.

    The streams are drained before (`check_streams` of what `shipped_parts` names): a record that
    still waits in one could come twice.

    Raises:
        OSError: The rest is still in the archive.
        ShardError: A file is damaged; it and those behind it are still in the archive.
    """
    files, root = files_at(url)
    num_new = 0
    for path in sorted(files.glob(f"{root}/*/*{SUFFIX}")):
        manifest, entries = decode_shard(path, files.cat_file(path))
        log = ShardLog(shards, manifest.policy)
        known = set(_known(log.folder, manifest))
        new = [entry for entry in entries if not known & _names(entry)]
        sealables = [read_sealable(entry)[1] for entry in new]
        if sealables:
            log.append(sealables, now, _ARCHIVED_BY, are_known_new=True)
        num_new += len(new)
        files.rm_file(path)
    return num_new


def _write(url: str, policy: str, producer: str, sealables: list[Sealable], now: float) -> None:
    ordered = sorted(sealables, key=lambda each: (each.entry.partition or 0, each.entry.sequence))
    body = encode_blocks(each.entry for each in ordered)
    manifest = describe(policy, 0, ordered, {}, body, now, _ARCHIVED_BY)
    content = encode_shard(manifest, body)
    sequences = [each.entry.sequence for each in sealables]
    files, root = files_at(url)
    path = f"{root}/{policy}/{producer}-{min(sequences):020d}-{max(sequences):020d}{SUFFIX}"
    with suppress(FileExistsError):
        files.makedirs(f"{root}/{policy}", exist_ok=True)
    files.pipe_file(path, content)
    # What is read back is what is trusted: the spool is the only other copy.
    decode_shard(path, files.cat_file(path))


def _known(folder: Path, wanted: ShardManifest) -> Iterator[tuple[str, int | None, int]]:
    """Names of the log's entries that may be among the wanted ones."""
    spans: dict[str, tuple[int, int]] = {}
    for each in wanted.ranges:
        first, last = spans.get(each.producer, (each.first, each.last))
        spans[each.producer] = (min(first, each.first), max(last, each.last))
    for number in shard_numbers(folder):
        path = shard_path(folder, number)
        if any(_overlaps(spans, each) for each in read_manifest(path).ranges):
            yield from (entry[:3] for entry in read_entries(path))


def _overlaps(spans: dict[str, tuple[int, int]], held: Range) -> bool:
    first, last = spans.get(held.producer, (0, -1))
    return held.first <= last and held.last >= first


def _names(entry: Entry) -> set[tuple[str, int | None, int]]:
    """By what names the log may know an entry: its own, and that of the whole record."""
    return {
        (entry.producer, entry.partition, entry.sequence),
        (entry.producer, None, entry.sequence),
    }
