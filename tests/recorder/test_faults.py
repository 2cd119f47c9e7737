"""A short form of `benchmarks.faults`, and proof that it would notice."""

import random
from functools import partial
from pathlib import Path

import pytest

from benchmarks.faults.load import Load
from benchmarks.faults.matrix import (
    cut_redis_power,
    drain_dead_spools,
    kill_recorder,
    kill_worker,
    swallow_answers,
)
from benchmarks.faults.ring import Ring, wait_until
from benchmarks.faults.store import find_binaries
from benchmarks.faults.verdict import check
from recorder.shard_log import ShardLog
from recorder.shards import shard_path
from tests.recorder.records import sealable


def has_more(load: Load, than: int) -> bool:
    return len(load.accepted) > than


def test_nothing_accepted_is_lost_or_doubled_when_everything_fails_at_once(tmp_path: Path) -> None:
    data, scratch = tmp_path / "data", tmp_path / "scratch"
    data.mkdir()
    scratch.mkdir()
    ring = Ring(data, scratch, find_binaries()[0])
    load = Load(lambda: ring.port, num_threads=2, pause_seconds=0.005)
    try:
        wait_until(ring.is_answering, "the service answers")
        load.start()
        rng = random.Random(3)
        for strike in (
            swallow_answers, kill_worker, cut_redis_power, kill_recorder, drain_dead_spools,
        ):  # fmt: skip
            before = len(load.accepted)
            wait_until(partial(has_more, load, before + 20), "records come in")
            strike(ring, rng)
        load.stop()
        ring.drain()
    finally:
        load.stop()
        ring.close()
    verdict = check(data / "shards", load.accepted)
    assert verdict.accepted > 80
    assert (verdict.lost, verdict.doubled, verdict.unsealed_numbers) == (0, 0, 0)


@pytest.fixture
def log(tmp_path: Path) -> ShardLog:
    """Three shards with an outcome each."""
    made = ShardLog(tmp_path, "cartpole")
    for sequence in (1, 2, 3):
        made.append([sealable(sequence, episode_id=f"o{sequence}")], 2000.0, "me")
    return made


def test_the_books_show_what_is_lost(tmp_path: Path, log: ShardLog) -> None:
    assert check(tmp_path, ["o1", "o2", "o3"]).lost == 0
    assert check(tmp_path, ["o1", "o9"]).lost == 1
    shard_path(log.folder, 2).unlink()
    verdict = check(tmp_path, ["o1", "o2", "o3"])
    assert (verdict.lost, verdict.unsealed_numbers) == (1, 1)


def test_the_books_show_what_is_doubled_whether_it_was_accepted_or_not(
    tmp_path: Path, log: ShardLog
) -> None:
    log.append([sealable(7, episode_id="o2"), sealable(8, episode_id="o2")], 2000.0, "me")
    assert check(tmp_path, ["o1"]).doubled == 2
    shard_path(log.folder, 9).write_bytes(shard_path(log.folder, 1).read_bytes())
    assert check(tmp_path, []).doubled == 3
