"""Finds records by a name that is in them: in spools, in Redis and in sealed shards."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import redis

from contract.records import Record, decode_record
from contract.segments import read_records
from contract.streams import NUM_PARTITIONS, POLICIES_KEY, records_key
from recorder.shards import (
    DEAD_LETTERS,
    UNNAMED,
    raw_folder,
    read_entries,
    read_manifest,
    sealed_policies,
    shard_numbers,
    shard_path,
)


class Found(NamedTuple):
    """A record, and where it is."""

    where: str
    record: Record


class Places:
    """Where records are: what has been looked through is counted, so that it can be said."""

    def __init__(self, spools: Path, shards: Path, redis_url: str | None) -> None:
        self._spools = spools
        self._shards = shards
        self._redis_url = redis_url
        self.looked_in: dict[str, int] = {}

    def find(self, name: str, since: float) -> Iterator[Found]:
        """Records that hold a name, the newest shards first.

        Args:
            name: A decision's or an episode's id; what merely begins or ends so is found too.
            since: Unix seconds: shards that end before are passed over.

        Raises:
            ShardError: A shard is damaged.
            redis.RedisError: Redis is away.
        """
        self.looked_in = {}
        wanted = name.encode()
        yield from self._in_spools(wanted)
        yield from self._in_redis(wanted)
        yield from self._in_shards(wanted, since)

    def describe(self) -> str:
        """Where it was looked, in words."""
        places = [f"{count} {place}" for place, count in self.looked_in.items()]
        if self._redis_url is None:
            places.append("no Redis, as none is set")
        return ", ".join(places)

    def _in_spools(self, wanted: bytes) -> Iterator[Found]:
        folders = sorted(path for path in self._spools.glob("*") if path.is_dir())
        self.looked_in[f"spools of {self._spools}"] = len(folders)
        for folder in folders:
            for sequence, content in read_records(folder):
                yield from _decoded(wanted, content, f"{folder}, record {sequence}")

    def _in_redis(self, wanted: bytes) -> Iterator[Found]:
        if self._redis_url is None:
            return
        with redis.Redis.from_url(self._redis_url, socket_timeout=10) as client:
            policies: Any = client.smembers(POLICIES_KEY)
            keys = [
                records_key(policy.decode(), partition)
                for policy in sorted(policies)
                for partition in range(NUM_PARTITIONS)
            ]
            self.looked_in["streams of Redis"] = len(keys)
            for key in keys:
                for stream_id, fields in _entries(client, key):
                    where = f"Redis, {key} {stream_id.decode()}"
                    yield from _decoded(wanted, fields.get(b"record", b""), where)

    def _in_shards(self, wanted: bytes, since: float) -> Iterator[Found]:
        manifests = [
            (path, read_manifest(path))
            for policy in (*sealed_policies(self._shards), UNNAMED, DEAD_LETTERS)
            for number in shard_numbers(raw_folder(self._shards, policy))
            for path in [shard_path(raw_folder(self._shards, policy), number)]
        ]
        recent = [each for each in manifests if each[1].last_time >= since]
        self.looked_in[f"shards of {self._shards}"] = len(recent)
        for path, _ in sorted(recent, key=lambda each: -each[1].sealed_at):
            for entry in read_entries(path):
                where = f"{path}, record {entry.sequence} of {entry.producer}"
                yield from _decoded(wanted, entry.content, where)


def _decoded(wanted: bytes, content: bytes, where: str) -> Iterable[Found]:
    # Most records do not hold the name, and need not be decoded.
    if wanted not in content:
        return
    try:
        yield Found(where, decode_record(content))
    except msgspec.DecodeError:
        return


def _entries(client: "redis.Redis", key: str) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
    after = "-"
    while chunk := list(_range(client, key, after)):
        yield from chunk
        after = f"({chunk[-1][0].decode()}"


def _range(client: "redis.Redis", key: str, after: str) -> Any:
    return client.xrange(key, after, count=500)
