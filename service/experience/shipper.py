"""From the spool to Redis Streams: a thread of its own, behind by as much as Redis is away.

At least once: the position moves, and segments are removed, once Redis has the records on disk. A
crash before that ships them again; readers know a record by (producer, sequence).
"""

import threading
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from contract.files import replace_file
from contract.records import decode_record
from contract.routing import route_content
from contract.segment_reader import SHIPPED_FILE, SegmentReader, read_shipped, remove_segments
from contract.streams import POLICIES_KEY, records_key
from service.experience.durability import Durability
from service.experience.spool import Spool
from service.metrics import Metrics

_BATCH_BYTES: Final = 4 * 1024**2
_IDLE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0
_TIMEOUT_SECONDS: Final = 5.0

_log = structlog.get_logger(__name__)


class _Awaited(NamedTuple):
    """What was sent, and is not known to be on Redis's disk."""

    sequence: int
    """Of the last one."""
    records: int
    since: float | None
    """Time of the first one; Unix seconds."""


class Shipper:
    """Owns the one connection to Redis and the position up to which it has the spool's records."""

    def __init__(self, spool: Spool, redis_url: str, metrics: Metrics) -> None:
        self._spool = spool
        # Without retries of its own, and on one connection that is not made anew in silence.
        self._redis = redis.Redis.from_url(
            redis_url,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            max_connections=1,
            redis_connect_func=self._on_connect,
        )
        self._durability = Durability(self._redis)
        self._is_committed = False
        """Something was sent over the present connection, and is not confirmed."""
        self._has_begun = False
        self._confirmed = read_shipped(spool.folder)
        self._reader = SegmentReader(spool.folder, self._confirmed)
        self._awaited: _Awaited | None = None
        self._num_sent = 0
        """Records sent after those that are awaited."""
        self._sent_since: float | None = None
        """Time of the first of these."""
        self._oldest_time: float | None = None
        self._stop = threading.Event()
        self._shipped = metrics.counter("dqn_records_total", "shipped")
        self._up = metrics.counter("dqn_redis_up")
        self._oldest_seconds = metrics.counter("dqn_spool_oldest_seconds")
        self._thread = threading.Thread(target=self._run, name="shipper", daemon=True)

    def start(self) -> None:
        """Begin to ship."""
        self._thread.start()

    def close(self) -> None:
        """Stop after the batch in hand; what is left is shipped after the next start."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._redis.close()

    def _run(self) -> None:
        pause = _IDLE_SECONDS
        while not self._stop.wait(pause):
            pause = self._try(pause)
            oldest = self._oldest_time
            self._oldest_seconds.set(0.0 if oldest is None else max(0.0, time.time() - oldest))
        # So that what was sent is not sent again after the next start.
        self._try(pause)

    def _try(self, pause: float) -> float:
        """Ship what there is; how long to wait before the next time."""
        try:
            is_behind = self._ship()
        # OSError: the disk refuses the position. Either way the records wait where they are.
        except (redis.RedisError, OSError) as error:
            self._set_up(False, str(error))
            self._reader.rewind(self._confirmed)
            self._awaited, self._num_sent, self._is_committed = None, 0, False
            return min(max(2 * pause, _IDLE_SECONDS), _LONGEST_PAUSE_SECONDS)
        self._set_up(True)
        return 0.0 if is_behind else _IDLE_SECONDS

    def _ship(self) -> bool:
        """Send the next records and confirm earlier ones; False where the spool holds no more."""
        # What is not yet synced could still be cut: its numbers would be given out again.
        batch = self._reader.read(_BATCH_BYTES, self._spool.durable_sequence)
        if batch and not self._num_sent:
            self._sent_since = _time_of(batch[0][1])
        if self._awaited is None:
            self._oldest_time = self._sent_since if batch else None
            self._redis.ping()
        else:
            self._oldest_time = self._awaited.since
        if batch:
            self._send(batch)
            self._num_sent += len(batch)
        self._await()
        if self._awaited is not None:
            self._confirm(self._awaited, is_idle=not batch)
        return bool(batch)

    def _send(self, batch: Sequence[tuple[int, bytes]]) -> None:
        if not self._has_begun:
            # Before anything is sent: who drains a dead worker's folder is to know by it that some
            # of what is not confirmed may have come through.
            replace_file(self._spool.folder / SHIPPED_FILE, str(self._confirmed).encode())
            self._has_begun = True
        parts: dict[str, list[tuple[int, bytes]]] = {}
        policies = set()
        for sequence, content in batch:
            for policy, partition, part in route_content(self._spool.producer, content):
                policies.add(policy)
                parts.setdefault(records_key(policy, partition), []).append((sequence, part))
        pipeline: Any = self._redis.pipeline(transaction=False)
        pipeline.sadd(POLICIES_KEY, *policies)
        for key, entries in parts.items():
            # All of a stream's or none: a reader that has met a number takes a lower one that
            # comes later for a repeat.
            pipeline.execute_command("MULTI")
            for sequence, part in entries:
                pipeline.execute_command(
                    "XADD", key, "*",
                    "producer", self._spool.producer, "sequence", sequence, "record", part,
                )  # fmt: skip
            pipeline.execute_command("EXEC")
        self._is_committed = True
        pipeline.execute()

    def _await(self) -> None:
        if self._awaited is None and self._num_sent:
            self._awaited = _Awaited(self._reader.position, self._num_sent, self._sent_since)
            self._num_sent = 0
            self._durability.begin(time.monotonic())

    def _confirm(self, awaited: _Awaited, *, is_idle: bool) -> None:
        now = time.monotonic()
        if self._durability.is_due(now, is_idle=is_idle) and self._durability.is_reached(now):
            self._confirmed = awaited.sequence
            replace_file(self._spool.folder / SHIPPED_FILE, str(self._confirmed).encode())
            remove_segments(self._spool.folder, self._confirmed)
            self._shipped.add(awaited.records)
            self._awaited = None
            self._await()
            self._is_committed = self._awaited is not None

    def _on_connect(self, connection: Any) -> None:
        """Refuse a new connection while another's records are not confirmed.

        Redis may have been restarted, and have lost them. What comes next would be sealed, and what
        is sent again then would be taken for a repeat.
        """
        if self._is_committed:
            raise redis.ConnectionError("the connection was lost with records unconfirmed")
        connection.on_connect()

    def _set_up(self, is_up: bool, error: str | None = None) -> None:
        if self._up.value != is_up:
            _log.info("redis_up") if is_up else _log.warning("redis_down", error=error)
        self._up.set(is_up)


def _time_of(content: bytes) -> float | None:
    try:
        return decode_record(content).time
    except msgspec.DecodeError:
        return None
