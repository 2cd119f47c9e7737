import errno
import multiprocessing
import os
import resource
import threading
from pathlib import Path

import pytest

from contract.ledger import (
    LEDGER_FILE,
    Entry,
    FileLedger,
    LedgerError,
    LedgerMovedError,
    append_latest,
)


def entry(why: str = "a test", **changes: object) -> Entry:
    fields = {"action": "promote", "policy": "cartpole", "who": "a tester", "version": 2}
    return Entry(why=why, **(fields | changes))  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / LEDGER_FILE


def whys(path: Path) -> list[str]:
    return [entry.why for entry in FileLedger(path).read_after(0)]


def test_ledger_gives_back_its_entries_numbered_and_dated(path: Path) -> None:
    ledger = FileLedger(path)
    assert ledger.read_after(0) == []
    first = ledger.append(entry("one", details={"share": 0.05, "note": "two\nlines\r"}), after=0)
    second = ledger.append(entry("two", at="2025-01-01T00:00:00Z"), after=1)
    assert (first.position, second.position, ledger.position) == (1, 2, 2)
    assert second.at == "2025-01-01T00:00:00Z"
    assert first.at.endswith("+00:00")
    assert FileLedger(path).read_after(0) == [first, second]
    assert FileLedger(path).read_after(1) == [second]


def test_of_two_writers_that_saw_the_same_the_second_is_refused(path: Path) -> None:
    one, other = FileLedger(path), FileLedger(path)
    one.append(entry("first"), after=0)
    with pytest.raises(LedgerMovedError, match="at position 1, expected 0"):
        other.append(entry("stale"), after=0)
    other.append(entry("second"), after=1)
    assert whys(path) == ["first", "second"]


def test_position_ahead_of_the_ledger_is_refused_too(path: Path) -> None:
    with pytest.raises(LedgerMovedError, match="at position 0, expected 1"):
        FileLedger(path).append(entry(), after=1)


def test_reader_sees_what_another_process_appended(path: Path) -> None:
    reader, writer = FileLedger(path), FileLedger(path)
    writer.append(entry("one"), after=0)
    assert [found.why for found in reader.read_after(0)] == ["one"]
    writer.append(entry("two"), after=1)
    assert [found.why for found in reader.read_after(1)] == ["two"]
    assert [found.why for found in reader.read_after(0)] == ["one", "two"]


def _append_many(path: Path, writer: int) -> None:
    ledger = FileLedger(path)
    for number in range(10):
        append_latest(ledger, entry(f"{writer}/{number}"), attempts=10_000)


def test_processes_that_append_at_once_give_every_position_once(path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_many, args=(path, writer)) for writer in range(5)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    assert [process.exitcode for process in writers] == [0] * 5
    entries = FileLedger(path).read_after(0)
    assert [found.position for found in entries] == list(range(1, 51))
    for writer in range(5):
        own = [found.why for found in entries if found.why.startswith(f"{writer}/")]
        assert own == [f"{writer}/{number}" for number in range(10)]


def test_threads_may_share_a_ledger(path: Path) -> None:
    ledger = FileLedger(path)
    threads = [
        threading.Thread(target=append_latest, args=(ledger, entry(str(number)), 10_000))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found.why for found in ledger.read_after(0)) == [str(n) for n in range(8)]
    assert len(whys(path)) == 8


def test_line_torn_at_any_byte_is_unread_and_cut_by_the_next_writer(path: Path) -> None:
    FileLedger(path).append(entry("one"), after=0)
    kept = path.stat().st_size
    FileLedger(path).append(entry("torn in a line longer than the next"), after=1)
    content = path.read_bytes()
    for size in range(kept, len(content)):
        path.write_bytes(content[:size])
        reader = FileLedger(path)
        assert [found.why for found in reader.read_after(0)] == ["one"]
        FileLedger(path).append(entry("two"), after=1)
        assert [found.why for found in reader.read_after(1)] == ["two"]
        assert path.read_bytes().count(b"\n") == 2
        assert path.read_bytes().endswith(b"\n")


def test_known_key_gives_the_past_entry_and_appends_nothing(path: Path) -> None:
    first = FileLedger(path).append(entry("one", key="k"), after=0)
    FileLedger(path).append(entry("two"), after=1)
    assert FileLedger(path).append(entry("again", key="k"), after=0) == first
    assert whys(path) == ["one", "two"]


def test_key_of_one_change_is_refused_for_another_and_free_to_another_policy(path: Path) -> None:
    ledger = FileLedger(path)
    ledger.append(entry(key="k"), after=0)
    with pytest.raises(ValueError, match="key 'k' is that of promote 2 at position 1, not of roll"):
        ledger.append(entry(action="rollback", key="k"), after=1)
    with pytest.raises(ValueError, match="not of promote 3"):
        ledger.append(entry(version=3, key="k"), after=1)
    assert ledger.append(entry(policy="lunarlander", key="k"), after=1).position == 2


def test_append_latest_needs_no_position(path: Path) -> None:
    append_latest(FileLedger(path), entry("one"))
    append_latest(FileLedger(path), entry("two"))
    assert whys(path) == ["one", "two"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{}\n", "line 2: .*missing required field"),
        (b"\xff\n", "line 2"),
        (b"\n", "line 2"),
        (b"first", "line 2: says it is position 1"),
    ],
)
def test_line_that_is_no_entry_is_an_error_each_time_and_doubles_nothing(
    path: Path, line: bytes, message: str
) -> None:
    ledger = FileLedger(path)
    ledger.append(entry("one"), after=0)
    good = path.read_bytes()
    path.write_bytes(good + (good if line == b"first" else line))
    fresh = FileLedger(path)
    for reader in (ledger, fresh, fresh):
        with pytest.raises(LedgerError, match=message):
            reader.read_after(0)
        with pytest.raises(LedgerError, match=message):
            reader.append(entry("two"), after=1)
    path.write_bytes(good)
    assert [found.why for found in fresh.read_after(0)] == ["one"]


@pytest.mark.parametrize("is_renamed", [True, False])
@pytest.mark.parametrize("others", [0, 1, 2, 5])
def test_ledger_with_another_past_is_an_error_and_is_left_as_it_is(
    path: Path, is_renamed: bool, others: int
) -> None:
    ledger = FileLedger(path)
    append_latest(ledger, entry("one"))
    restored = path.read_bytes() if others else b""
    append_latest(ledger, entry("two"))
    append_latest(ledger, entry("three"))
    replacement = path.with_name("replacement") if is_renamed else path
    replacement.write_bytes(restored)
    for number in range(1, others):
        append_latest(FileLedger(replacement), entry(f"other {number}"))
    replacement.rename(path)
    content = path.read_bytes()
    with pytest.raises(LedgerError, match="is not the ledger it was at position 3"):
        ledger.read_after(0)
    with pytest.raises(LedgerError, match="is not the ledger it was at position 3"):
        ledger.append(entry("four"), after=3)
    assert path.read_bytes() == content
    assert len(whys(path)) == others


def test_ledger_that_is_gone_is_an_error_to_who_has_read_it(path: Path) -> None:
    ledger = FileLedger(path)
    append_latest(ledger, entry())
    path.unlink()
    with pytest.raises(LedgerError, match="is gone"):
        ledger.read_after(0)


def test_copy_of_the_same_past_in_its_place_is_no_change(path: Path) -> None:
    ledger = FileLedger(path)
    append_latest(ledger, entry("one"))
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.rename(path)
    append_latest(ledger, entry("two"))
    assert whys(path) == ["one", "two"]


def test_append_that_finds_the_disk_full_fails_and_the_next_one_succeeds(path: Path) -> None:
    def act() -> None:
        ledger = FileLedger(path)
        append_latest(ledger, entry("one"))
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        for room in (0, 1, 50):
            limit = path.stat().st_size + room
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))
            with pytest.raises(OSError, match=r"No space|too large") as caught:
                ledger.append(entry("too long" * 10), after=1)
            assert caught.value.errno in (errno.ENOSPC, errno.EFBIG)
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
            assert FileLedger(path).read_after(1) == []
        ledger.append(entry("two"), after=1)

    process = multiprocessing.get_context("fork").Process(target=act)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert whys(path) == ["one", "two"]


def test_retry_after_an_fsync_that_failed_finds_its_own_entry(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: int) -> None:
        raise OSError(errno.EIO, "the disk is failing")

    append_latest(FileLedger(path), entry("one"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(OSError, match="failing"):
            FileLedger(path).append(entry("two", key="k"), after=1)
    assert FileLedger(path).append(entry("two", key="k"), after=1).position == 2
    assert whys(path) == ["one", "two"]
