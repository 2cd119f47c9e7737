"""Where raw records wait to be sealed: a producer's spool, or a Redis stream."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from contract.routing import route_content
from contract.segment_reader import SHIPPED_FILE, SegmentReader, read_shipped, remove_segments
from contract.streams import NUM_PARTITIONS, POLICIES_KEY, records_key
from recorder.lease import Lease, Leases
from recorder.shards import Entry

MALFORMED: Final = "malformed"
"""Stands for the producer of a stream's entry that names none."""

_TIMEOUT_SECONDS: Final = 10.0
_FIRST_COUNT: Final = 16
_MOST_ENTRIES: Final = 2000


class Source(Protocol):
    """Gives records at least once, and removes them once they are sealed."""

    def read(self, max_bytes: int) -> list[Entry]:
        """The next durable records, until they exceed `max_bytes` together."""

    def trim(self) -> None:
        """Remove all that was read: it is sealed."""

    def rewind(self) -> None:
        """Give again what was read and not trimmed: it could not be sealed."""


class SpoolSource:
    """One producer's folder, read by this process alone. What Redis has is left to its reader."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._was_shipped = (folder / SHIPPED_FILE).exists()
        self._reader = SegmentReader(folder, read_shipped(folder))

    @property
    def position(self) -> int:
        """Sequence number of the last record that was read."""
        return self._reader.position

    def read(self, max_bytes: int) -> list[Entry]:
        """What the producer has written; made durable here before it is passed on."""
        taken = self._reader.read_durable(max_bytes)
        return [entry for sequence, content in taken for entry in self._entries(sequence, content)]

    def trim(self) -> None:
        """Remove the segments that were read whole."""
        remove_segments(self._folder, self._reader.position)

    def rewind(self) -> None:
        """Start again at what is left."""
        self._reader.rewind(read_shipped(self._folder))

    def _entries(self, sequence: int, content: bytes) -> Iterator[Entry]:
        producer = self._folder.name
        if not self._was_shipped:
            yield Entry(producer, None, sequence, content)
            return
        # Some of what was sent last may have come through: its parts are told one by one.
        for _, partition, part in route_content(producer, content):
            yield Entry(producer, partition, sequence, part)


class StreamSource:
    """One stream, read from its start: what is sealed has been trimmed, or is known as a repeat."""

    def __init__(self, client: "redis.Redis", leases: Leases, policy: str, partition: int) -> None:
        self._client = client
        self._leases = leases
        self._policy = policy
        self._partition = partition
        self._lease: Lease | None = None
        self._after: bytes | None = None

    def read(self, max_bytes: int) -> list[Entry]:
        """The stream's oldest entries; none while another recorder holds its lease.

        Raises:
            redis.RedisError: Redis is away.
        """
        self._after = None
        self._lease = self._leases.acquire(self._policy, self._partition)
        entries: list[Entry] = []
        size = 0
        key = records_key(self._policy, self._partition)
        while self._lease is not None and size < max_bytes:
            least = "-" if self._after is None else f"({self._after.decode()}"
            chunk: Any = self._client.xrange(
                key, least, count=_count(len(entries), size, max_bytes)
            )
            if not chunk:
                break
            entries += [self._entry(*each) for each in chunk]
            size += sum(len(entry.content) for entry in entries[-len(chunk) :])
            self._after = chunk[-1][0]
        return entries

    def trim(self) -> None:
        """Remove what was read, unless the lease was lost since: then its holder does.

        Raises:
            redis.RedisError: Redis is away.
        """
        if self._lease is not None and self._after is not None:
            milliseconds, _, counter = self._after.decode().partition("-")
            self._leases.trim(self._lease, f"{milliseconds}-{int(counter) + 1}")

    def rewind(self) -> None:
        """Nothing to do: a stream is read from its start each time."""

    def _entry(self, stream_id: bytes, fields: dict[bytes, bytes]) -> Entry:
        try:
            producer, sequence = fields[b"producer"].decode(), int(fields[b"sequence"])
            return Entry(producer, self._partition, sequence, fields[b"record"])
        except (KeyError, ValueError):
            # Not ours, or damaged: kept under a number that grows as the stream does.
            milliseconds, _, counter = stream_id.decode().partition("-")
            number = (int(milliseconds) << 20) + int(counter)
            return Entry(MALFORMED, self._partition, number, msgspec.msgpack.encode(fields))

    def release(self) -> None:
        """Give the lease back.

        Raises:
            redis.RedisError: Redis is away.
        """
        if self._lease is not None:
            self._leases.release(self._lease)


def _count(num_entries: int, size: int, max_bytes: int) -> int:
    """How many entries to ask for, so that their bytes are about what is wanted."""
    if num_entries == 0:
        return _FIRST_COUNT
    mean_bytes = max(size / num_entries, 1.0)
    return min(max(int((max_bytes - size) / mean_bytes), 1), _MOST_ENTRIES)


class Spools:
    """The spools of one machine."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._sources: dict[Path, SpoolSource] = {}

    def find(self) -> list[Source]:
        """One source a producer's folder, those that are new included."""
        if self._root.is_dir():
            for folder in sorted(path for path in self._root.iterdir() if path.is_dir()):
                if folder not in self._sources:
                    self._sources[folder] = SpoolSource(folder)
        return list(self._sources.values())

    def num_pending(self) -> int:
        """Entries of streams: there are none."""
        return 0

    def close(self) -> None:
        """Nothing is held."""


class OneSpool:
    """The folder of one producer that is gone."""

    def __init__(self, folder: Path) -> None:
        self._source = SpoolSource(folder)

    def find(self) -> list[Source]:
        """The folder."""
        return [self._source]


class Streams:
    """All streams of a Redis, over one connection that is not made anew within a pass.

    A Redis that was restarted may have lost what was read, and, with its clock put back, give the
    ids of those entries to others: they would be trimmed unread.
    """

    def __init__(self, url: str, holder: str, lease_seconds: float) -> None:
        # Without retries of its own: each pass is one.
        self._client = redis.Redis.from_url(
            url,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            max_connections=1,
            redis_connect_func=self._on_connect,
        )
        self._is_in_pass = False
        self._leases = Leases(self._client, holder, lease_seconds)
        self._sources: dict[tuple[str, int], StreamSource] = {}

    def find(self) -> list[Source]:
        """One source a stream, those of new policies included.

        Raises:
            redis.RedisError: Redis is away.
        """
        self._is_in_pass = False
        policies: Any = self._client.smembers(POLICIES_KEY)
        self._is_in_pass = True
        for policy in sorted(each.decode() for each in policies):
            for partition in range(NUM_PARTITIONS):
                if (policy, partition) not in self._sources:
                    self._sources[policy, partition] = StreamSource(
                        self._client, self._leases, policy, partition
                    )
        return list(self._sources.values())

    def num_pending(self) -> int:
        """Entries of all streams, not yet sealed.

        Raises:
            redis.RedisError: Redis is away.
        """
        pipeline = self._client.pipeline(transaction=False)
        for policy, partition in self._sources:
            pipeline.xlen(records_key(policy, partition))
        return sum(pipeline.execute())

    def close(self) -> None:
        """Give the leases back.

        Raises:
            redis.RedisError: Redis is away; they expire.
        """
        self._is_in_pass = False
        for source in self._sources.values():
            source.release()
        self._client.close()

    def _on_connect(self, connection: Any) -> None:
        if self._is_in_pass:
            raise redis.ConnectionError("the connection was lost within a pass")
        connection.on_connect()
