import os
import threading
from pathlib import Path

import pytest

from recorder.shard_log import ShardLog
from recorder.shards import (
    Position,
    Range,
    ShardError,
    read_entries,
    read_manifest,
    read_records,
    shard_numbers,
    shard_path,
)
from tests.contract.crash import dies_at
from tests.recorder.records import sealable, sealed_entries, sealed_rewards


def log_of(shards: Path) -> ShardLog:
    return ShardLog(shards, "cartpole")


def test_a_shard_gives_back_what_was_sealed_and_says_what_it_holds(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    log.append([sealable(7), sealable(8), sealable(3, producer="other", partition=5)], 2000.0, "me")
    path = shard_path(tmp_path / "cartpole" / "raw", 1)
    assert [(producer, sequence) for producer, sequence, _ in read_records(path)] == [
        ("other", 3), ("worker", 7), ("worker", 8),
    ]  # fmt: skip
    manifest = read_manifest(path)
    assert manifest.ranges == [Range("other", 5, 3, 3, 1), Range("worker", None, 7, 8, 2)]
    assert manifest.positions == {"other/5": Position(3, 2000.0), "worker": Position(8, 2000.0)}
    assert (manifest.first_time, manifest.last_time) == (1003.0, 1008.0)
    assert (manifest.policy, manifest.records, manifest.sealed_by) == ("cartpole", 3, "me")
    assert manifest.schema_hashes == ["schema"]


def test_records_offered_again_are_sealed_once(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    # As a stream holds them whose shipper lost an answer, and tried again from further back.
    log.append([sealable(each) for each in (1, 2, 3, 2, 3, 4)], 2000.0, "me")
    assert log.append([sealable(3), sealable(4)], 2001.0, "me") is None
    log.append([sealable(4), sealable(6)], 2002.0, "me")
    assert sealed_rewards(log.folder) == [1.0, 2.0, 3.0, 4.0, 6.0]


def test_parts_of_one_record_in_two_streams_are_both_sealed(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    log.append([sealable(1, partition=0), sealable(1, partition=9)], 2000.0, "me")
    assert [entry.partition for entry in sealed_entries(log.folder)] == [0, 9]


def test_what_was_sealed_whole_from_a_spool_is_not_sealed_again_from_a_stream(
    tmp_path: Path,
) -> None:
    log = log_of(tmp_path)
    log.append([sealable(5)], 2000.0, "me")
    log.append([sealable(5, partition=2), sealable(6, partition=2)], 2001.0, "me")
    assert [entry.sequence for entry in sealed_entries(log.folder)] == [5, 6]


def test_of_two_sealers_with_the_same_records_one_seals_them(tmp_path: Path) -> None:
    logs = [log_of(tmp_path) for _ in range(4)]
    together = threading.Barrier(len(logs))

    def seal(log: ShardLog) -> None:
        for sequence in range(25):
            together.wait()
            log.append([sealable(sequence), sealable(sequence + 1)], 2000.0, "me")

    threads = [threading.Thread(target=seal, args=(log,)) for log in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sealed_rewards(logs[0].folder) == [float(sequence) for sequence in range(26)]


def test_a_sealer_that_slept_leaves_out_what_another_sealed_meanwhile(tmp_path: Path) -> None:
    stale, other = log_of(tmp_path), log_of(tmp_path)
    stale.append([sealable(1)], 2000.0, "stale")
    other.append([sealable(2), sealable(3)], 2001.0, "other")
    stale.append([sealable(2), sealable(3), sealable(4)], 2002.0, "stale")
    assert sealed_rewards(stale.folder) == [1.0, 2.0, 3.0, 4.0]
    assert shard_numbers(stale.folder) == [1, 2, 3]


def test_the_newest_shard_alone_carries_number_and_positions_on(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    for sequence in (1, 2, 3):
        log.append([sealable(sequence)], 2000.0 + sequence, "me")
    for number in (1, 2):
        shard_path(log.folder, number).unlink()
    for each in (log, log_of(tmp_path)):
        assert each.append([sealable(2)], 3000.0, "me") is None
    log_of(tmp_path).append([sealable(3), sealable(4)], 3000.0, "me")
    assert shard_numbers(log.folder) == [3, 4]
    assert sealed_rewards(log.folder) == [3.0, 4.0]


def test_a_reader_that_slept_past_a_clean_up_finds_the_newest_shard(tmp_path: Path) -> None:
    slept, log = log_of(tmp_path), log_of(tmp_path)
    slept.append([sealable(1)], 2000.0, "slept")
    for sequence in (2, 3, 4):
        log.append([sealable(sequence)], 2000.0, "me")
    for number in (1, 2, 3):
        shard_path(log.folder, number).unlink()
    slept.append([sealable(4), sealable(5)], 2000.0, "slept")
    assert shard_numbers(log.folder) == [4, 5]


def test_streams_long_silent_are_forgotten_and_spools_are_not(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    log.append([sealable(1), sealable(1, producer="pod", partition=3)], 0.0, "me")
    log.append([sealable(1, producer="new")], 31 * 86400.0, "me")
    newest = log.newest()
    assert newest is not None
    assert set(newest.positions) == {"worker", "new"}


@pytest.mark.parametrize("damage", ["cut", "flipped", "no manifest"])
def test_a_damaged_shard_is_refused(tmp_path: Path, damage: str) -> None:
    log = log_of(tmp_path)
    log.append([sealable(1)], 2000.0, "me")
    path = shard_path(log.folder, 1)
    whole = path.read_bytes()
    changed = {
        "cut": whole[:-1],
        "flipped": whole[:-1] + bytes([whole[-1] ^ 1]),
        "no manifest": b"{}\n" + whole,
    }
    path.write_bytes(changed[damage])
    with pytest.raises(ShardError, match=str(path)):
        list(read_entries(path))


def test_dying_at_any_moment_of_an_append_leaves_all_of_it_or_nothing(tmp_path: Path) -> None:
    lived = False
    seen = set()
    for operation in range(1, 60):
        shards = tmp_path / str(operation)
        first = log_of(shards)
        first.append([sealable(1)], 2000.0, "me")

        def seal(shards: Path = shards) -> None:
            log_of(shards).append([sealable(1), sealable(2)], 2001.0, "me")

        lived = not dies_at(seal, shards, operation)
        seen.add(tuple(sealed_rewards(first.folder)))
        log_of(shards).append([sealable(1), sealable(2), sealable(3)], 2002.0, "me")
        assert sealed_rewards(first.folder) == [1.0, 2.0, 3.0]
        if lived:
            break
    assert lived
    assert seen == {(1.0,), (1.0, 2.0)}


def test_a_shard_is_a_line_of_json_and_a_body(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    manifest = log.append([sealable(1)], 2000.0, "me")
    assert manifest is not None
    content = shard_path(log.folder, 1).read_bytes()
    line, _, body = content.partition(b"\n")
    assert line.startswith(b'{"format_version":1,"policy":"cartpole","number":1,')
    assert len(body) == manifest.body_bytes
    assert os.listdir(log.folder) == ["000000000001.shard"]
