import hashlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recorder.dataset import parts
from recorder.dataset.load import read_dataset
from recorder.dataset.manifest import DatasetError, PartManifest
from recorder.dataset.parts import (
    Kind,
    compact,
    expire,
    read_tables,
    remove_replaced,
    seal_tables,
)
from recorder.dataset.store import DatasetStore
from recorder.dataset.tables import STEPS
from tests.builders import POLICY
from tests.recorder.dataset.episodes import NOW, Log, built, episode_records

ROOTS = ["memory://parts-{name}", "{tmp_path}"]


@pytest.fixture(params=ROOTS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> DatasetStore:
    return DatasetStore(request.param.format(name=tmp_path.name, tmp_path=tmp_path / "datasets"))


def fill(store: DatasetStore, tmp_path: Path, num_parts: int = 4) -> Log:
    """One episode of 3 steps a part."""
    log = Log(tmp_path / "shards")
    for number in range(num_parts):
        log.seal(episode_records(f"e{number}", [number] * 3, begin=1000.0 * (number + 1)))
        built(log, store)
    return log


def rewards(store: DatasetStore) -> dict[str, list[float]]:
    return {
        each.episode_id: each.transitions.rewards.tolist()
        for each in read_dataset(store, POLICY).episodes()
    }


def test_a_manifest_tells_all_of_its_part(store: DatasetStore, tmp_path: Path) -> None:
    fill(store, tmp_path, num_parts=2)
    first, second = store.parts(POLICY)
    assert (first.policy, first.schema_hash) == (POLICY, "0123456789abcdef")
    assert (first.observation_shape, first.observation_dtype) == ((4,), "float32")
    assert (first.num_actions, first.num_episodes, first.num_complete_episodes) == (2, 1, 1)
    assert (first.num_steps, first.num_rows) == (3, 3)
    assert second.total_return == 3.0
    assert second.versions == {"3": 3}
    assert (second.started_at, second.ended_at) == (2000.0, 2002.5)
    assert [shard.number for shard in second.shards] == [2]
    for name, file in first.files.items():
        content = store.read_part_file(first, name)
        assert file.sha256 == hashlib.sha256(content).hexdigest()
    assert PartManifest.decode(first.encode(), "here") == first


def test_any_parquet_reader_reads_the_tables(tmp_path: Path) -> None:
    store = DatasetStore(tmp_path / "datasets")
    fill(store, tmp_path, num_parts=1)
    (part,) = store.parts(POLICY)
    folder = tmp_path / "datasets" / POLICY / "parts" / part.part_id
    steps = pq.read_table(folder / "steps.parquet").to_pydict()
    assert steps["episode_id"] == ["e0"] * 3
    assert steps["behaviour"] == ["cartpole@3"] * 3
    assert steps["propensity"] == [0.75] * 3
    assert pq.read_table(folder / "episodes.parquet").to_pydict()["ending"] == ["terminated"]


def test_small_parts_become_one_and_nothing_else_changes(
    store: DatasetStore, tmp_path: Path
) -> None:
    fill(store, tmp_path)
    before = read_dataset(store, POLICY).load()
    old = {part.part_id for part in store.parts(POLICY)}
    (made,) = compact(store, POLICY, NOW)
    assert set(made.replaces) == old
    assert [shard.number for shard in made.shards] == [1, 2, 3, 4]
    assert store.parts(POLICY) == [made]
    after = read_dataset(store, POLICY).load()
    for name in before._fields:
        assert getattr(before, name).tolist() == getattr(after, name).tolist(), name
    assert compact(store, POLICY, NOW) == []
    assert store.names(f"{POLICY}/parts") == [made.part_id]


def test_a_crash_between_the_new_part_and_the_old_ones_end_doubles_nothing(
    store: DatasetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = fill(store, tmp_path)

    def crash(store: DatasetStore, policy: str) -> None:
        if len(store.parts(policy)) == 1:
            raise InterruptedError

    monkeypatch.setattr(parts, "remove_replaced", crash)
    with pytest.raises(InterruptedError):
        compact(store, POLICY, NOW)
    assert len(store.names(f"{POLICY}/parts")) == 5
    assert rewards(store) == {f"e{number}": [number] * 3 for number in range(4)}
    log.seal(episode_records("e9", [9.0], begin=9000.0))
    built(log, store)
    assert len(rewards(store)) == 5
    remove_replaced(store, POLICY)
    assert len(store.names(f"{POLICY}/parts")) == 2
    assert len(rewards(store)) == 5


def test_parts_of_different_schemas_stay_apart(store: DatasetStore, tmp_path: Path) -> None:
    log = fill(store, tmp_path, num_parts=2)
    log.seal(episode_records("other", [5.0], begin=9000.0, schema_hash="feedfeedfeedfeed"))
    built(log, store)
    compact(store, POLICY, NOW)
    assert sorted(part.num_episodes for part in store.parts(POLICY)) == [1, 2]


def test_parts_are_joined_only_until_one_is_full(
    store: DatasetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, tmp_path)
    monkeypatch.setattr(parts, "PART_STEPS", 7)
    compact(store, POLICY, NOW)
    assert [part.num_steps for part in store.parts(POLICY)] == [6, 6]


def test_a_part_is_sealed_when_it_is_full(
    store: DatasetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_STEPS", 5)
    log = Log(tmp_path / "shards")
    log.seal(
        [
            record
            for number in range(5)
            for record in episode_records(f"e{number}", [1.0] * 3, begin=1000.0 * (number + 1))
        ]
    )
    built(log, store)
    assert [part.num_episodes for part in store.parts(POLICY)] == [2, 2, 1]


def test_what_ended_before_its_time_is_removed_by_whole_parts(
    store: DatasetStore, tmp_path: Path
) -> None:
    fill(store, tmp_path)
    # e1 ended at 2002.5.
    assert [part.ended_at for part in expire(store, POLICY, before=2002.5)] == [1002.5]
    assert sorted(rewards(store)) == ["e1", "e2", "e3"]
    assert expire(store, POLICY, before=2002.5) == []
    assert len(expire(store, POLICY, before=2003.0)) == 1


@pytest.mark.parametrize("name", ["episodes.parquet", "steps.parquet", "observations.parquet"])
def test_a_file_that_is_not_what_was_sealed_is_not_read(
    store: DatasetStore, name: str, tmp_path: Path
) -> None:
    fill(store, tmp_path, num_parts=1)
    (part,) = store.parts(POLICY)
    path = f"{POLICY}/parts/{part.part_id}/{name}"
    content = store.read_part_file(part, name)
    flipped = bytearray(content)
    flipped[len(content) // 3] ^= 1
    for damaged in (content[:-1], bytes(flipped), b""):
        store.write(path, damaged)
        with pytest.raises(DatasetError, match=rf"{name}: {len(damaged)} bytes that are not"):
            read_dataset(store, POLICY).load()


def test_a_part_without_its_manifest_is_not_there(store: DatasetStore, tmp_path: Path) -> None:
    fill(store, tmp_path, num_parts=1)
    store.write(f"{POLICY}/parts/0123456789abcdef/steps.parquet", b"half")
    assert len(store.parts(POLICY)) == 1
    remove_replaced(store, POLICY)
    assert len(store.names(f"{POLICY}/parts")) == 1


def test_a_manifest_of_another_format_is_refused() -> None:
    with pytest.raises(DatasetError, match="here: format_version"):
        PartManifest.decode(b'{"format_version": 2}', "here")


def test_a_part_of_an_earlier_release_is_read_and_joined_with_later_ones(
    store: DatasetStore, tmp_path: Path
) -> None:
    fill(store, tmp_path, num_parts=2)
    newer, older = store.parts(POLICY)
    tables = read_tables(store, older)
    # Before assignment salts were logged there was no column of them.
    tables[STEPS] = tables[STEPS].drop_columns(["salt"])
    store.remove_part(POLICY, older.part_id)
    sealed = seal_tables(
        store, Kind(POLICY, older.schema_hash, older.layout), tables, older.shards, NOW
    )
    assert sealed.part_id != older.part_id
    before = rewards(store)
    (joined,) = compact(store, POLICY, NOW)
    assert rewards(store) == before
    assert set(joined.replaces) == {newer.part_id, sealed.part_id}
