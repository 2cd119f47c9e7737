import errno
import os
from pathlib import Path
from typing import Any, cast

import pytest

from contract.files import replace_file
from contract.records import DecisionBatch, Record, decode_record, encode_record, row_names
from contract.routing import route
from contract.segment_reader import SHIPPED_FILE
from contract.segments import SegmentWriter, recover, segment_paths
from recorder.seal import Sealer
from recorder.shard_log import Sealable, ShardLog
from recorder.shards import (
    DEAD_LETTERS,
    UNNAMED,
    Entry,
    raw_folder,
    sealed_policies,
    shard_numbers,
)
from recorder.sources import Spools
from tests.builders import decision_batch, outcome, transition_record
from tests.contract.crash import dies_at
from tests.recorder.records import sealed_entries, sealed_rewards

NOW = 5000.0


def spool(folder: Path, *records: Record | bytes, segment_bytes: int = 1) -> Path:
    """What a worker would have written, each record in a segment of its own unless told."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = SegmentWriter(folder, recover(folder), segment_bytes)
    for record in records:
        writer.append([record if isinstance(record, bytes) else encode_record(record)])
    writer.close()
    return folder


def sealer(tmp_path: Path, max_bytes: int = 10**7) -> Sealer:
    return Sealer(tmp_path / "shards", Spools(tmp_path / "spool"), max_bytes, "me")


def rewards(tmp_path: Path, policy: str = "cartpole") -> list[float]:
    return sealed_rewards(raw_folder(tmp_path / "shards", policy))


def test_every_producers_records_are_sealed_by_policy_and_their_segments_removed(
    tmp_path: Path,
) -> None:
    first = spool(tmp_path / "spool" / "a", outcome(1.0, decision_id="d"), decision_batch())
    second = spool(
        tmp_path / "spool" / "b",
        outcome(2.0, decision_id="d"),
        transition_record(policy="pong"),
        outcome(3.0, decision_id="d"),
    )
    assert sealer(tmp_path).seal(NOW) == (5, False)
    assert sealed_policies(tmp_path / "shards") == ["cartpole", "pong"]
    assert rewards(tmp_path) == [1.0, 2.0, 3.0]
    entries = sealed_entries(raw_folder(tmp_path / "shards", "pong"))
    assert [(entry.producer, entry.sequence) for entry in entries] == [("b", 1)]
    # The newest segment carries the numbering on.
    assert [int(path.stem) for path in segment_paths(first)] == [1]
    assert [int(path.stem) for path in segment_paths(second)] == [2]


def test_what_is_written_between_passes_is_sealed_once(tmp_path: Path) -> None:
    sealing = sealer(tmp_path)
    for reward in (1.0, 2.0, 3.0):
        spool(tmp_path / "spool" / "a", outcome(reward, decision_id="d"), segment_bytes=10**6)
        assert sealing.seal(NOW).records == 1
    assert sealing.seal(NOW).records == 0
    assert rewards(tmp_path) == [1.0, 2.0, 3.0]


def test_a_new_recorder_recognises_what_is_sealed(tmp_path: Path) -> None:
    spool(tmp_path / "spool" / "a", outcome(1.0, decision_id="d"), segment_bytes=10**6)
    sealer(tmp_path).seal(NOW)
    spool(tmp_path / "spool" / "a", outcome(2.0, decision_id="d"), segment_bytes=10**6)
    assert sealer(tmp_path).seal(NOW).records == 2
    assert rewards(tmp_path) == [1.0, 2.0]


def test_an_outcome_without_a_policy_has_a_place_of_its_own(tmp_path: Path) -> None:
    spool(tmp_path / "spool" / "a", outcome(4.0, policy=None, decision_id="d"))
    sealer(tmp_path).seal(NOW)
    assert rewards(tmp_path, UNNAMED) == [4.0]
    assert sealed_policies(tmp_path / "shards") == []


@pytest.mark.parametrize(
    "content",
    [b"\xc1 no record", encode_record(outcome(1.0, policy="../../etc", decision_id="d"))],
)
def test_what_cannot_be_read_is_kept_apart_and_holds_nothing_up(
    tmp_path: Path, content: bytes
) -> None:
    spool(tmp_path / "spool" / "a", outcome(1.0, decision_id="d"), content)
    spool(tmp_path / "spool" / "a", outcome(2.0, decision_id="d"))
    sealer(tmp_path).seal(NOW)
    assert rewards(tmp_path) == [1.0, 2.0]
    (letter,) = sealed_entries(raw_folder(tmp_path / "shards", DEAD_LETTERS))
    assert (letter.producer, letter.sequence, letter.content) == ("a", 1, content)


def test_a_large_backlog_is_many_shards(tmp_path: Path) -> None:
    records = [
        transition_record(
            transition_id=str(number), episode_id=None, step=None, behaviour="b" * 100_000
        )
        for number in range(10)
    ]
    spool(tmp_path / "spool" / "a", *records)
    sealing = sealer(tmp_path, max_bytes=300_000)
    passes = 1
    while sealing.seal(NOW).is_full:
        passes += 1
    folder = raw_folder(tmp_path / "shards", "cartpole")
    assert passes == len(shard_numbers(folder)) == 4
    assert [entry.sequence for entry in sealed_entries(folder)] == list(range(10))


def test_records_that_redis_has_are_left_to_who_reads_redis(tmp_path: Path) -> None:
    folder = spool(tmp_path / "spool" / "a", *(outcome(each, decision_id="d") for each in (0, 1)))
    spool(folder, outcome(2.0, decision_id="d"), outcome(3.0, decision_id="d"))
    replace_file(folder / SHIPPED_FILE, b"1")
    sealer(tmp_path).seal(NOW)
    assert rewards(tmp_path) == [2.0, 3.0]


def test_parts_that_came_through_redis_are_not_sealed_again_from_the_spool(
    tmp_path: Path,
) -> None:
    batch = decision_batch(
        [[float(row)] * 4 for row in range(6)], decision_ids=["d"], episode_ids=list("abcdef"),
        steps=[0] * 6,
    )  # fmt: skip
    folder = spool(tmp_path / "spool" / "a", batch)
    replace_file(folder / SHIPPED_FILE, b"-1")
    (_, partition, part), *others = route(batch)
    assert others
    log = ShardLog(tmp_path / "shards", "cartpole")
    log.append([Sealable(Entry("a", partition, 0, part), 1000.0, None)], NOW, "another")
    sealer(tmp_path).seal(NOW)
    names = [
        name
        for entry in sealed_entries(log.folder)
        for name in row_names(cast("DecisionBatch", decode_record(entry.content)))
    ]
    assert sorted(names) == [f"d/{row}" for row in range(6)]


def test_a_pass_that_fails_removes_nothing_and_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = spool(tmp_path / "spool" / "a", outcome(1.0, decision_id="d"))
    spool(folder, transition_record(policy="pong"), outcome(2.0, decision_id="d"))
    sealing = sealer(tmp_path)
    real_link = os.link

    def fill_up(source: Any, target: Any) -> None:
        if "pong" in str(target):
            raise OSError(errno.ENOSPC, "the disk is full")
        real_link(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", fill_up)
        with pytest.raises(OSError, match="full"):
            sealing.seal(NOW)
    assert len(segment_paths(folder)) == 3
    sealing.seal(NOW)
    assert rewards(tmp_path) == [1.0, 2.0]
    assert len(sealed_entries(raw_folder(tmp_path / "shards", "pong"))) == 1
    assert len(segment_paths(folder)) == 1


def test_dying_at_any_moment_of_a_pass_loses_and_doubles_nothing(tmp_path: Path) -> None:
    lived = False
    for operation in range(1, 120):
        data = tmp_path / str(operation)
        folder = spool(data / "spool" / "a", outcome(1.0, decision_id="d"))
        spool(folder, transition_record(policy="pong"), outcome(2.0, decision_id="d"))
        lived = not dies_at(lambda data=data: sealer(data).seal(NOW), data, operation)  # type: ignore[misc]
        spool(folder, outcome(3.0, decision_id="d"))
        sealer(data).seal(NOW)
        assert rewards(data) == [1.0, 2.0, 3.0]
        assert len(sealed_entries(raw_folder(data / "shards", "pong"))) == 1
        if lived:
            break
    assert lived
