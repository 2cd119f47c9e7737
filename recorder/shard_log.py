"""Appending to a policy's shards: what is sealed, and that it is sealed once."""

import hashlib
import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple
from uuid import uuid4

from contract.files import make_directory, sync_directory, write_synced
from recorder.shards import (
    FORMAT_VERSION,
    Entry,
    Position,
    Range,
    ShardManifest,
    encode_blocks,
    encode_shard,
    is_sealed,
    lane_of,
    raw_folder,
    read_manifest,
    shard_numbers,
    shard_path,
)

_REMEMBERED_SECONDS: Final = 30 * 86400.0


class Sealable(NamedTuple):
    """An entry, and what the manifest says of its record."""

    entry: Entry
    time: float
    """Unix seconds."""
    schema_hash: str | None


class ShardLog:
    """The shards of one policy: reads how far they go, and appends."""

    def __init__(self, shards: Path, policy: str) -> None:
        self.policy = policy
        self.folder = raw_folder(shards, policy)
        self._newest: ShardManifest | None = None

    def newest(self) -> ShardManifest | None:
        """The manifest of the last shard, whoever wrote it; None where there is none."""
        known = self._newest
        if known is None or not shard_path(self.folder, known.number).exists():
            numbers = shard_numbers(self.folder)
            if not numbers:
                return None
            known = self._trust(numbers[-1])
        while shard_path(self.folder, known.number + 1).exists():
            known = self._trust(known.number + 1)
        return known

    def append(
        self,
        sealables: Sequence[Sealable],
        now: float,
        sealed_by: str,
        *,
        are_known_new: bool = False,
    ) -> ShardManifest | None:
        """Seal what is not sealed yet into the next shard; None where all of it was.

        Entries of one producer and partition come in the order of their sequence numbers; one that
        stands at or below a number that is sealed is a repeat, and left out.

        Args:
            sealables: What to seal.
            now: Unix seconds.
            sealed_by: Who does.
            are_known_new: The caller has looked: no shard holds any of them, though later ones of
                the same producers are sealed.

        Raises:
            OSError: Nothing was sealed.
        """
        make_directory(self.folder)
        while True:
            newest = self.newest()
            positions = {} if newest is None else newest.positions
            fresh = _fresh(sealables, {} if are_known_new else positions)
            if not fresh:
                return None
            number = 1 if newest is None else newest.number + 1
            body = encode_blocks(each.entry for each in fresh)
            manifest = describe(self.policy, number, fresh, positions, body, now, sealed_by)
            if self._take_number(manifest, body):
                self._newest = manifest
                return manifest

    def _trust(self, number: int) -> ShardManifest:
        """Take over what another sealer, or an earlier life of this one, made visible."""
        # It may have died before it made the name durable, and records are removed by what stands
        # here.
        sync_directory(self.folder)
        self._newest = read_manifest(shard_path(self.folder, number))
        return self._newest

    def _take_number(self, manifest: ShardManifest, body: bytes) -> bool:
        """Make a shard visible; False where another sealer took its number first."""
        temporary = self.folder / f".{manifest.number:012d}.{uuid4().hex}.tmp"
        try:
            write_synced(temporary, encode_shard(manifest, body))
            # A rename would replace a shard that stands there already.
            os.link(temporary, shard_path(self.folder, manifest.number))
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        sync_directory(self.folder)
        return True


def _fresh(sealables: Sequence[Sealable], positions: dict[str, Position]) -> list[Sealable]:
    """What no shard holds, each once, in the order of lanes."""
    fresh: list[Sealable] = []
    reached: dict[str, int] = {}
    for each in sealables:
        entry = each.entry
        lane = lane_of(entry.producer, entry.partition)
        if entry.sequence <= reached.get(lane, -1) or is_sealed(positions, entry):
            continue
        reached[lane] = entry.sequence
        fresh.append(each)
    return sorted(fresh, key=lambda each: lane_of(each.entry.producer, each.entry.partition))


def describe(
    policy: str,
    number: int,
    fresh: Sequence[Sealable],
    positions: dict[str, Position],
    body: bytes,
    now: float,
    sealed_by: str,
) -> ShardManifest:
    """The manifest of entries that stand together by producer and partition."""
    lanes = groupby(fresh, key=lambda each: (each.entry.producer, each.entry.partition))
    ranges = [
        _range(producer, partition, [each.entry.sequence for each in group])
        for (producer, partition), group in lanes
    ]
    reached = {
        lane: Position(max(each.last, positions[lane].sequence if lane in positions else -1), now)
        for each in ranges
        for lane in (lane_of(each.producer, each.partition),)
    }
    return ShardManifest(
        format_version=FORMAT_VERSION,
        policy=policy,
        number=number,
        sealed_at=now,
        sealed_by=sealed_by,
        records=len(fresh),
        first_time=min(each.time for each in fresh),
        last_time=max(each.time for each in fresh),
        ranges=ranges,
        schema_hashes=sorted({each.schema_hash for each in fresh if each.schema_hash is not None}),
        positions=_remembered(positions, now) | reached,
        body_bytes=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
    )


def _range(producer: str, partition: int | None, sequences: list[int]) -> Range:
    return Range(producer, partition, sequences[0], sequences[-1], len(sequences))


def _remembered(positions: dict[str, Position], now: float) -> dict[str, Position]:
    """Without the streams of producers long silent: pods come and go, each under a new name.

    A spool keeps its newest segment for ever, so that its position is kept as long.
    """
    return {
        lane: position
        for lane, position in positions.items()
        if "/" not in lane or position.time > now - _REMEMBERED_SECONDS
    }
