import errno
import multiprocessing
import os
import resource
import shutil
import struct
import zlib
from collections.abc import Callable
from io import FileIO
from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import Buffer

from contract import segments
from contract.segments import SegmentWriter, read_frames, read_records, recover, segment_paths

GROUPS = [[b"zero", b"one"], [b"two"], [b"", b"four" * 100, b"five"]]


def write(folder: Path, groups: list[list[bytes]], max_bytes: int = 10_000) -> SegmentWriter:
    writer = SegmentWriter(folder, recover(folder), max_bytes)
    for group in groups:
        writer.append(group)
        writer.sync()
    return writer


def read(folder: Path, after: int = -1) -> list[tuple[int, bytes]]:
    return list(read_records(folder, after))


def only_segment(folder: Path) -> Path:
    (path,) = segment_paths(folder)
    return path


def test_records_come_back_numbered_in_the_order_of_writing(tmp_path: Path) -> None:
    write(tmp_path, GROUPS).close()
    expected = list(enumerate(record for group in GROUPS for record in group))
    assert read(tmp_path) == expected
    assert read(tmp_path, after=2) == expected[3:]
    assert read(tmp_path, after=5) == []


def test_reader_goes_on_from_the_end_of_the_frame_it_read(tmp_path: Path) -> None:
    writer = write(tmp_path, GROUPS[:2])
    path = only_segment(tmp_path)
    first, second = read_frames(path)
    assert (first.first_sequence, first.last_sequence, second.last_sequence) == (0, 1, 2)
    writer.append(GROUPS[2])
    assert [frame.records for frame in read_frames(path, second.end_offset)] == [GROUPS[2]]
    writer.close()


def test_segment_rolls_over_before_it_would_exceed_its_limit(tmp_path: Path) -> None:
    groups = [[os.urandom(300)] for _ in range(10)]
    write(tmp_path, groups, max_bytes=1000).close()
    names = [path.name for path in segment_paths(tmp_path)]
    assert names == [f"{first:020d}.seg" for first in (0, 2, 4, 6, 8)]
    assert all(path.stat().st_size <= 1000 for path in segment_paths(tmp_path))
    for after in range(-1, 10):
        assert [sequence for sequence, _ in read(tmp_path, after)] == list(range(after + 1, 10))


def test_group_larger_than_a_segment_has_one_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, [[b"small"], [os.urandom(5000)], [b"small"]], max_bytes=1000).close()
    assert [int(path.stem) for path in segment_paths(tmp_path)] == [0, 1, 2]


def test_large_group_is_cut_into_frames_that_a_reader_accepts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "_FRAME_BYTES", 1000)
    monkeypatch.setattr(segments, "_MAX_RECORD_BYTES", 2000)
    group = [bytes([number]) * 300 for number in range(10)] + [b"x" * 1500]
    writer = write(tmp_path, [group])
    assert [len(frame.records) for frame in read_frames(only_segment(tmp_path))] == [3, 3, 3, 1, 1]
    assert [record for _, record in read(tmp_path)] == group
    with pytest.raises(ValueError, match="a record of 2001 bytes is over 2000"):
        writer.append([b"fits", b"x" * 1996])
    assert writer.next_sequence == 11
    writer.close()


def test_tail_torn_at_any_byte_is_cut_and_everything_before_survives(tmp_path: Path) -> None:
    write(tmp_path, GROUPS).close()
    path = only_segment(tmp_path)
    content = path.read_bytes()
    _, second, _ = read_frames(path)
    before = read(tmp_path)[:3]
    for size in range(second.end_offset, len(content)):
        path.write_bytes(content[:size])
        assert read(tmp_path) == before
        assert recover(tmp_path) == 3
        assert path.stat().st_size == second.end_offset
    write(tmp_path, [[b"new"]]).close()
    assert read(tmp_path) == [*before, (3, b"new")]


def test_damage_to_any_byte_of_a_middle_frame_costs_that_frame_alone(tmp_path: Path) -> None:
    write(tmp_path, GROUPS).close()
    path = only_segment(tmp_path)
    content = path.read_bytes()
    first, second, _ = read_frames(path)
    everything = read(tmp_path)
    for place in range(first.end_offset, second.end_offset):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        assert read(tmp_path) == everything[:2] + everything[3:]
        assert recover(tmp_path) == 6
        assert path.read_bytes() == damaged


def test_numbers_go_on_where_the_newest_segment_lost_all_it_held(tmp_path: Path) -> None:
    write(tmp_path, [[b"a"] * 5]).close()
    (tmp_path / f"{5:020d}.seg").write_bytes(b"DQN1 torn in its first frame")
    assert recover(tmp_path) == 5
    write(tmp_path, [[b"b"]]).close()
    assert read(tmp_path)[-1] == (5, b"b")


def test_numbers_go_on_where_only_an_empty_newest_segment_is_left(tmp_path: Path) -> None:
    (tmp_path / f"{41:020d}.seg").write_bytes(b"")
    assert recover(tmp_path) == 41
    assert recover(tmp_path) == 41
    assert recover(tmp_path / "absent") == 0


def in_child(act: Callable[[], None]) -> int | None:
    process = multiprocessing.get_context("fork").Process(target=act)
    process.start()
    process.join()
    return process.exitcode


@pytest.mark.parametrize("room", [0, 1, 23, 24, 200])
def test_write_that_finds_the_disk_full_leaves_a_file_that_reads_and_goes_on(
    tmp_path: Path, room: int
) -> None:
    write(tmp_path, GROUPS).close()
    path = only_segment(tmp_path)
    whole = path.read_bytes()

    def act() -> None:
        writer = SegmentWriter(tmp_path, recover(tmp_path))
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        # Frames of a reopened folder go to a segment of their own.
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, unlimited[1]))
        for _ in range(2):
            with pytest.raises(OSError, match="File too large") as caught:
                writer.append([os.urandom(500)])
            assert caught.value.errno == errno.EFBIG
            assert segment_paths(tmp_path)[-1].stat().st_size == 0
        assert writer.next_sequence == 6
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        writer.append([b"six"])
        writer.close()

    assert in_child(act) == 0
    assert path.read_bytes() == whole
    assert read(tmp_path)[6:] == [(6, b"six")]


class FailingFile(FileIO):
    """A file on a disk that fills up and, for a while, fails."""

    room = 10_000
    can_truncate = True

    def write(self, content: Buffer, /) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, "the disk is full")
        written = super().write(memoryview(content)[: self.room])
        FailingFile.room -= written
        return written

    def truncate(self, size: int | None = None, /) -> int:
        if not self.can_truncate:
            raise OSError(errno.EIO, "the disk is failing")
        return super().truncate(size)


def test_what_could_not_be_cut_back_never_makes_a_later_cut_hit_a_whole_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contract.segments.FileIO", FailingFile)
    writer = SegmentWriter(tmp_path, 0)
    writer.append([b"zero"])
    for can_truncate, following in ((False, b"one"), (True, b"two")):
        monkeypatch.setattr(FailingFile, "can_truncate", can_truncate)
        monkeypatch.setattr(FailingFile, "room", 100)
        with pytest.raises(OSError, match="full"):
            writer.append([os.urandom(500)])
        monkeypatch.setattr(FailingFile, "room", 10_000)
        writer.append([following])
    writer.close()
    assert read(tmp_path) == [(0, b"zero"), (1, b"one"), (2, b"two")]


def test_numbers_of_frames_that_a_reader_may_have_met_are_not_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contract.segments.FileIO", FailingFile)
    monkeypatch.setattr("contract.segments._FRAME_BYTES", 600)
    monkeypatch.setattr(FailingFile, "room", 1_300)
    writer = SegmentWriter(tmp_path, 0)
    with pytest.raises(OSError, match="full"):
        # Two frames of one record fit into the room there is, and half of the third.
        writer.append([os.urandom(500) for _ in range(3)])
    monkeypatch.setattr(FailingFile, "room", 10_000)
    writer.append([b"next"])
    writer.close()
    assert read(tmp_path) == [(2, b"next")]


def failing_fdatasync(monkeypatch: pytest.MonkeyPatch, calls: int = 1) -> None:
    failures = iter([True] * calls)

    def fdatasync(descriptor: int) -> None:
        if next(failures, False):
            raise OSError(errno.EIO, "the disk is failing")

    monkeypatch.setattr(os, "fdatasync", fdatasync)


def test_failed_sync_gives_the_segment_up_and_its_numbers_are_not_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = write(tmp_path, [[b"a"]])
    writer.append([b"doubtful"])
    failing_fdatasync(monkeypatch)
    with pytest.raises(OSError, match="failing"):
        writer.sync()
    writer.append([b"b"])
    writer.close()
    assert [int(path.stem) for path in segment_paths(tmp_path)] == [0, 2]
    assert recover(tmp_path) == 3


def test_failed_sync_of_a_full_segment_is_told_to_the_sync_that_it_concerns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SegmentWriter(tmp_path, 0, max_bytes=100)
    failing_fdatasync(monkeypatch)
    writer.append([os.urandom(80)])
    # The second fills the first's segment up: a failure to sync that one is not this append's.
    writer.append([os.urandom(80)])
    with pytest.raises(OSError, match="failing"):
        writer.sync()
    writer.append([b"later"])
    writer.sync()
    assert writer.next_sequence == 3
    writer.close()


def test_append_before_the_folder_is_synced_fails_until_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: Path) -> None:
        raise OSError(errno.EIO, "the folder cannot be synced")

    writer = SegmentWriter(tmp_path, 0)
    with monkeypatch.context() as patch:
        patch.setattr(segments, "sync_directory", failing)
        for _ in range(2):
            with pytest.raises(OSError, match="cannot be synced"):
                writer.append([b"lost"])
    writer.append([b"kept"])
    writer.close()
    assert read(tmp_path) == [(0, b"kept")]


def frame(payload: bytes, sequence: int, count: int) -> bytes:
    checked = struct.pack("<QI", sequence, count)
    checksum = zlib.crc32(checked + payload)
    return b"DQN1" + struct.pack("<II", len(payload), checksum) + checked + payload


def test_frames_are_laid_out_as_documented(tmp_path: Path) -> None:
    payload = zstandard.ZstdCompressor().compress(msgspec.msgpack.encode([b"a", b"b"]))
    (tmp_path / f"{7:020d}.seg").write_bytes(frame(payload, sequence=7, count=2))
    assert read(tmp_path) == [(7, b"a"), (8, b"b")]


def test_frame_that_is_whole_but_holds_no_records_is_passed_over(tmp_path: Path) -> None:
    compress = zstandard.ZstdCompressor().compress
    content = b"".join(
        frame(payload, sequence=0, count=1)
        for payload in (
            b"not zstd",
            compress(b"not MessagePack"),
            compress(msgspec.msgpack.encode([b"one", b"too many"])),
            compress(bytes(128 * 1024 * 1024 + 1)),
        )
    )
    (tmp_path / f"{0:020d}.seg").write_bytes(content)
    assert read(tmp_path) == []


@settings(max_examples=30, deadline=None)
@given(
    groups=st.lists(st.lists(st.binary(max_size=60), min_size=1, max_size=4), max_size=8),
    restarts=st.lists(st.booleans(), min_size=8, max_size=8),
    torn=st.binary(max_size=40),
    max_bytes=st.integers(1, 300),
)
def test_whatever_was_synced_is_read_once_and_in_order_across_crashes(
    tmp_path_factory: pytest.TempPathFactory,
    groups: list[list[bytes]],
    restarts: list[bool],
    torn: bytes,
    max_bytes: int,
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    for group, crashes in zip(groups, restarts, strict=False):
        write(folder, [group], max_bytes).close()
        if crashes:
            with segment_paths(folder)[-1].open("ab") as file:
                file.write(torn)
    expected = list(enumerate(record for group in groups for record in group))
    assert read(folder) == expected
    assert recover(folder) == len(expected)
    shutil.rmtree(folder)
