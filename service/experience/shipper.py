"""From the spool to Redis Streams: a thread of its own, behind by as much as Redis is away.

At least once: the position is written after Redis has taken a batch, so that a crash between the
two ships it again. Readers know a record by (producer, sequence).
"""

import threading
import time
from collections.abc import Iterator
from itertools import islice, pairwise, zip_longest
from pathlib import Path
from typing import Final

import redis
import structlog

from contract.files import replace_file
from contract.records import DecisionBatch, Outcome, Record, decode_record, encode_record, take_rows
from contract.segments import read_frames, segment_paths
from contract.streams import partition_of, records_key
from service.experience.spool import Spool
from service.metrics import Metrics

POSITION_FILE: Final = "shipped"
_BATCH_RECORDS: Final = 256
_IDLE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0
_TIMEOUT_SECONDS: Final = 5.0

_Mark = tuple[Path | None, int]

_log = structlog.get_logger(__name__)


class Shipper:
    """Owns the one connection to Redis and the position up to which the spool was shipped."""

    def __init__(self, spool: Spool, redis_url: str, metrics: Metrics) -> None:
        self._spool = spool
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS
        )
        self._position = _read_position(spool)
        self._mark: _Mark = (None, 0)
        """Segment and offset of the frame that holds the position: none before it is decoded."""
        self._reached: _Mark = self._mark
        self._stop = threading.Event()
        self._shipped = metrics.counter("dqn_records_total", "shipped")
        self._up = metrics.counter("dqn_redis_up")
        self._oldest_seconds = metrics.counter("dqn_spool_oldest_seconds")
        self._oldest_time: float | None = None
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
            try:
                is_behind = self._ship_batch()
                self._set_up(True)
                pause = 0.0 if is_behind else _IDLE_SECONDS
            # OSError: the disk refuses the position. Either way the records wait where they are.
            except (redis.RedisError, OSError) as error:
                self._set_up(False, str(error))
                pause = min(max(2 * pause, _IDLE_SECONDS), _LONGEST_PAUSE_SECONDS)
            oldest = self._oldest_time
            self._oldest_seconds.set(0.0 if oldest is None else max(0.0, time.time() - oldest))

    def _ship_batch(self) -> bool:
        """Ship the next records; False where the spool holds no more."""
        # What is not yet synced could still be cut: its numbers would be given out again.
        durable = self._spool.durable_sequence
        if self._position >= durable:
            self._oldest_time = None
            self._redis.ping()
            return False
        batch = [
            (sequence, decode_record(content))
            for sequence, content in islice(self._following(), _BATCH_RECORDS)
            if sequence <= durable
        ]
        self._oldest_time = batch[0][1].time if batch else None
        pipeline = self._redis.pipeline(transaction=False)
        for sequence, record in batch:
            for key, part in route(record):
                fields = {"producer": self._spool.producer, "sequence": sequence, "record": part}
                pipeline.xadd(key, fields)  # type: ignore[arg-type]  # redis-py asks for a union
        pipeline.execute()
        self._advance(batch[-1][0] if batch else durable)
        self._shipped.add(len(batch))
        return True

    def _following(self) -> Iterator[tuple[int, bytes]]:
        """(sequence, record) above the position, from the frame that was reached last."""
        paths = segment_paths(self._spool.folder)
        begun, offset = self._mark
        for path, successor in zip_longest(paths, paths[1:]):
            if successor is not None and int(successor.stem) <= self._position + 1:
                continue
            start = offset if path == begun else 0
            for frame in read_frames(path, start):
                self._reached = (path, start)
                start = frame.end_offset
                for sequence, content in enumerate(frame.records, frame.first_sequence):
                    if sequence > self._position:
                        yield sequence, content

    def _advance(self, position: int) -> None:
        self._position = position
        self._mark = self._reached
        replace_file(self._spool.folder / POSITION_FILE, str(position).encode())
        # All but the newest segment are closed; one whose successor begins at or before the next
        # record to ship has been shipped whole.
        paths = segment_paths(self._spool.folder)
        for path, successor in pairwise(paths):
            if int(successor.stem) <= position + 1:
                path.unlink()

    def _set_up(self, is_up: bool, error: str | None = None) -> None:
        if self._up.value != is_up:
            _log.info("redis_up") if is_up else _log.warning("redis_down", error=error)
        self._up.set(is_up)


def route(record: Record) -> Iterator[tuple[str, bytes]]:
    """(stream key, encoded record) of each part: the records of an episode share a stream."""
    if not isinstance(record, DecisionBatch):
        name = record.episode_id or (
            f"{record.decision_id}/{record.row}"
            if isinstance(record, Outcome)
            else record.transition_id
        )
        yield records_key(record.policy or "", partition_of(name)), encode_record(record)
        return
    rows_of: dict[int, list[int]] = {}
    requests = [
        (name, row)
        for name, count in zip(record.decision_ids, record.row_counts, strict=True)
        for row in range(count)
    ]
    for index, (name, row) in enumerate(requests):
        partition = partition_of(record.episode_ids[index] or f"{name}/{row}")
        rows_of.setdefault(partition, []).append(index)
    for partition, rows in rows_of.items():
        part = record if len(rows_of) == 1 else take_rows(record, rows)
        yield records_key(record.policy, partition), encode_record(part)


def _read_position(spool: Spool) -> int:
    try:
        return int((spool.folder / POSITION_FILE).read_text(encoding="ascii"))
    except FileNotFoundError:
        return -1
