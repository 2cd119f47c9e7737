"""Spool, shipper, Redis and recorder by themselves: a backlog, and records at a fixed pace."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

import numpy as np
import redis

from benchmarks.faults.ring import wait_until
from benchmarks.faults.store import Store, find_binaries
from benchmarks.report import Figure
from benchmarks.serving.processes import cpu_seconds, free_port
from contract.records import AnsweredBy, Column, DecisionBatch, Outcome, Record, encode_record
from contract.segment_reader import read_shipped
from contract.segments import SegmentWriter
from contract.streams import NUM_PARTITIONS, records_key
from recorder.audit import audit_shards
from service.experience.shipper import Shipper
from service.experience.spool import Spool, SpoolLimits
from service.metrics import Metrics

_POLICY: Final = "delivery"
_REQUESTS_A_SECOND: Final = 200
_COMMITS_A_SECOND: Final = 20
_ROOT: Final = Path(__file__).parents[2]
_PACED_RECORDS: Final = 5000
_PADDING: Final = 256 - 49
"""Brings an outcome to 256 bytes."""


def drain_backlog(outage_seconds: int) -> Iterator[Figure]:
    """Records of an outage, shipped and sealed."""
    with tempfile.TemporaryDirectory(prefix="delivery-") as name:
        data = Path(name)
        num_records = _write_backlog(data / "spool" / "producer", outage_seconds)
        with started_store(data) as store, _recorder(data, store.port) as recorder:
            cpu_before, recorder_before = time.process_time(), cpu_seconds(recorder)
            client = redis.Redis(port=store.port)
            began = time.monotonic()
            with _shipper(data, store.port) as spool:
                last = spool.durable_sequence
                wait_until(lambda: _is_sealed(spool.folder, last, client), "all is sealed")
            client.close()
            seconds = time.monotonic() - began
            shipper_cpu = time.process_time() - cpu_before
            recorder_cpu = cpu_seconds(recorder) - recorder_before
        audit = audit_shards(data / "shards")
    what = f"a backlog of {outage_seconds} s at {_REQUESTS_A_SECOND} requests/s"
    yield Figure.at_most(f"{what}: shipped and sealed", seconds, "s", 60)
    yield Figure(f"{what}: CPU of the shipper", shipper_cpu, "s")
    yield Figure(f"{what}: CPU of the recorder", recorder_cpu, "s")
    yield Figure(f"{what}: records", num_records, "records")
    faults = sum(len(each.gaps) + each.doubled for each in audit.producers)
    yield Figure.at_most(f"{what}: lost or doubled", faults, "records", 0)


def keep_pace(seconds: int) -> Iterator[Figure]:
    """Records at a fixed pace, until Redis has them on disk."""
    with tempfile.TemporaryDirectory(prefix="delivery-") as name:
        data = Path(name)
        record = _outcome(0, 1000.0, _PADDING)
        with started_store(data) as store, _shipper(data, store.port) as spool:
            cpu_before = time.process_time()
            began = time.monotonic()
            asyncio.run(_put(spool, record, seconds))
            put_seconds = time.monotonic() - began
            last = spool.durable_sequence
            wait_until(lambda: read_shipped(spool.folder) >= last, "redis has it all")
            behind_seconds = time.monotonic() - began - put_seconds
            cpu = time.process_time() - cpu_before
    size = len(encode_record(record))
    num_records = last + 1
    rate = num_records / put_seconds
    yield Figure.at_least(f"records of {size} B a second", rate, "records/s", 0.98 * _PACED_RECORDS)
    yield Figure.at_most("Redis is behind by, at the end", behind_seconds, "s", 5)
    yield Figure("CPU of spool and shipper", 1e6 * cpu / num_records, "us/record")


async def _put(spool: Spool, record: Outcome, seconds: int) -> None:
    loop = asyncio.get_running_loop()
    spool.start(loop)
    began = loop.time()
    for tick in range(seconds * 100):
        told: asyncio.Future[object] = loop.create_future()
        spool.put_durably([record] * (_PACED_RECORDS // 100), told.set_result)
        await asyncio.sleep(max(0.0, began + (tick + 1) / 100 - loop.time()))
    assert await told is None


def _write_backlog(folder: Path, seconds: int) -> int:
    """Commits of 50 ms: ten decisions in one record, and an outcome for each."""
    folder.mkdir(parents=True)
    writer = SegmentWriter(folder, 0)
    rows = _REQUESTS_A_SECOND // _COMMITS_A_SECOND
    rng = np.random.default_rng(7)
    for commit in range(seconds * _COMMITS_A_SECOND):
        at = 1000.0 + commit / _COMMITS_A_SECOND
        records: list[Record] = [_decisions(rng, at, rows, commit)]
        records += [_outcome(commit * rows + row, at, 0) for row in range(rows)]
        writer.append([encode_record(record) for record in records])
    writer.close()
    return seconds * _COMMITS_A_SECOND * (rows + 1)


def _decisions(rng: np.random.Generator, at: float, rows: int, commit: int) -> DecisionBatch:
    return DecisionBatch(
        policy=_POLICY,
        schema_hash="0123456789abcdef",
        time=at,
        decision_ids=[uuid4().hex for _ in range(rows)],
        row_counts=[1] * rows,
        episode_ids=[f"episode-{(commit * rows + row) % 200}" for row in range(rows)],
        steps=[commit * rows // 200] * rows,
        observations=Column.of(rng.normal(size=(rows, 4)).astype(np.float32)),
        action_masks=None,
        actions=Column.of(rng.integers(0, 2, rows)),
        propensities=Column.of(np.ones(rows, dtype=np.float32)),
        q_values=Column.of(rng.normal(size=(rows, 2)).astype(np.float16)),
        answered_by=[AnsweredBy(1, "stable", "model", None, f"{_POLICY}@1")],
        answered_by_index=None,
    )


def _outcome(number: int, at: float, padding: int) -> Outcome:
    return Outcome(
        policy=_POLICY,
        time=at,
        decision_id=None,
        row=0,
        episode_id=f"episode-{number % 200}" + "x" * padding,
        step=number // 200,
        reward=1.0,
    )


def _is_sealed(folder: Path, last: int, client: "redis.Redis") -> bool:
    """Redis had it all, and has nothing more."""
    lengths = [client.xlen(records_key(_POLICY, each)) for each in range(NUM_PARTITIONS)]
    return read_shipped(folder) >= last and not any(lengths)


@contextmanager
def started_store(data: Path) -> Iterator[Store]:
    """A Redis of its own, as a ring around one is set up."""
    store = Store(find_binaries()[0], data, free_port())
    try:
        yield store
    finally:
        store.kill()


@contextmanager
def _shipper(data: Path, port: int) -> Iterator[Spool]:
    spool = Spool(data / "spool", SpoolLimits(0.05, 2**40, 0.0), Metrics())
    shipper = Shipper(spool, f"redis://127.0.0.1:{port}", Metrics())
    shipper.start()
    try:
        yield spool
    finally:
        shipper.close()
        spool.close()


@contextmanager
def _recorder(data: Path, port: int) -> Iterator[int]:
    command = [
        sys.executable, "-m", "recorder", f"--data={data}", "--seal-seconds=1",
        f"--redis-url=redis://127.0.0.1:{port}", "--metrics-port=0", "--log-level=error",
    ]  # fmt: skip
    kept = {name: value for name, value in os.environ.items() if name[:4] != "DQN_"}
    process = subprocess.Popen(command, cwd=_ROOT, env=kept, start_new_session=True)
    try:
        # As it would be in service: its start is no part of the figure.
        wait_until(_answers(port), "the recorder has asked redis")
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _answers(port: int) -> Callable[[], bool]:
    client = redis.Redis(port=port)

    def has_asked() -> bool:
        clients: list[dict[str, str]] = client.client_list()
        return any(each["cmd"] != "client|list" for each in clients)

    return has_asked
