from pathlib import Path

from recorder.audit import ProducerAudit, audit_shards
from recorder.shard_log import Sealable, ShardLog
from recorder.shards import DEAD_LETTERS, shard_path
from tests.recorder.records import sealable


def seal(shards: Path, policy: str, *sealables: Sealable) -> ShardLog:
    log = ShardLog(shards, policy)
    log.append(sealables, 2000.0, "me")
    return log


def test_a_producers_numbers_are_looked_at_over_policies_partitions_and_dead_letters(
    tmp_path: Path,
) -> None:
    seal(tmp_path, "cartpole", sealable(3), sealable(5))
    seal(tmp_path, "pong", sealable(4))
    seal(tmp_path, DEAD_LETTERS, sealable(6))
    parts = [sealable(7, partition=0), sealable(7, partition=1), sealable(9, partition=1)]
    seal(tmp_path, "cartpole", *parts)
    audit = audit_shards(tmp_path)
    assert audit.producers == [ProducerAudit("worker", 3, 9, 6, [(8, 8)], 0)]
    assert not audit.is_clean


def test_a_log_without_holes_is_clean(tmp_path: Path) -> None:
    seal(tmp_path, "cartpole", *(sealable(number) for number in range(10)))
    seal(tmp_path, "cartpole", sealable(0, producer="other"), sealable(1, producer="other"))
    audit = audit_shards(tmp_path)
    assert [(each.producer, each.records) for each in audit.producers] == [
        ("other", 2), ("worker", 10),
    ]  # fmt: skip
    assert audit.is_clean


def test_a_record_that_is_there_twice_is_found(tmp_path: Path) -> None:
    log = seal(tmp_path, "cartpole", sealable(1), sealable(2))
    # As if by a recorder that had forgotten: the same shard under another number.
    content = shard_path(log.folder, 1).read_bytes()
    shard_path(log.folder, 2).write_bytes(content)
    assert [each.doubled for each in audit_shards(tmp_path).producers] == [2]


def test_a_record_that_came_whole_and_in_parts_is_doubled(tmp_path: Path) -> None:
    seal(tmp_path, "cartpole", sealable(1))
    # Another policy's shards do not know of it.
    seal(tmp_path, "pong", sealable(1, partition=3), sealable(2, partition=3))
    assert [each.doubled for each in audit_shards(tmp_path).producers] == [1]


def test_damaged_and_missing_shards_are_told(tmp_path: Path) -> None:
    for number in range(4):
        log = seal(tmp_path, "cartpole", sealable(number))
    shard_path(log.folder, 2).unlink()
    path = shard_path(log.folder, 3)
    path.write_bytes(path.read_bytes()[:-1])
    audit = audit_shards(tmp_path)
    assert audit.missing_shards == {"cartpole": [2]}
    (why,) = audit.damaged
    assert str(path) in why
    assert [each.gaps for each in audit.producers] == [[(1, 2)]]


def test_nothing_at_all_is_clean(tmp_path: Path) -> None:
    assert audit_shards(tmp_path / "absent").is_clean
