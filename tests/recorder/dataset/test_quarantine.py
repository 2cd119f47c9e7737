from pathlib import Path

import pytest

from recorder.dataset.load import read_dataset
from recorder.dataset.manifest import DatasetError
from recorder.dataset.quarantine import add_quarantine, lift_quarantine, read_quarantines
from recorder.dataset.store import DatasetStore
from tests.builders import POLICY
from tests.recorder.dataset.episodes import NOW, Log, built, episode_records


@pytest.fixture(params=["memory://quarantine-{name}", "{tmp_path}"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> DatasetStore:
    """Episodes that run from 1000, 2000 and 3000 for 2.5 seconds each."""
    store = DatasetStore(request.param.format(name=tmp_path.name, tmp_path=tmp_path / "datasets"))
    log = Log(tmp_path / "shards")
    log.seal(
        [
            record
            for number in (1, 2, 3)
            for record in episode_records(f"e{number}", [1.0] * 3, begin=1000.0 * number)
        ]
    )
    built(log, store)
    return store


def ids(store: DatasetStore) -> list[str]:
    return [episode.episode_id for episode in read_dataset(store, POLICY).episodes()]


@pytest.mark.parametrize(
    ("begin", "end", "left"),
    [
        (2000.0, 2001.0, ["e1", "e3"]),
        (2001.0, 2002.0, ["e1", "e3"]),
        (2002.5, 2600.0, ["e1", "e3"]),
        (2002.6, 3000.0, ["e1", "e2", "e3"]),
        (1002.5, 3000.1, []),
    ],
)
def test_episodes_that_ran_at_any_moment_of_the_range_are_left_out(
    store: DatasetStore, begin: float, end: float, left: list[str]
) -> None:
    add_quarantine(store, POLICY, begin=begin, end=end, who="ops", why="sensor broke", now=NOW)
    assert ids(store) == left


def test_lifting_brings_everything_back_and_keeps_who_did_what(store: DatasetStore) -> None:
    before = read_dataset(store, POLICY)
    entry = add_quarantine(store, POLICY, begin=0, end=2500, who="ana", why="bad map", now=NOW)
    during = read_dataset(store, POLICY)
    assert during.dataset_id != before.dataset_id
    assert ids(store) == ["e3"]
    lift_quarantine(store, POLICY, entry.entry_id, who="bo", why="map was right", now=NOW + 60)
    after = read_dataset(store, POLICY)
    assert ids(store) == ["e1", "e2", "e3"]
    assert after.dataset_id == before.dataset_id
    assert after.manifests == before.manifests
    (kept,) = read_quarantines(store, POLICY)
    assert (kept.who, kept.why, kept.lifted_by, kept.lifted_why) == (
        "ana",
        "bad map",
        "bo",
        "map was right",
    )


def test_only_an_active_entry_is_lifted(store: DatasetStore) -> None:
    entry = add_quarantine(store, POLICY, begin=0, end=1, who="ana", why="x", now=NOW)
    with pytest.raises(DatasetError, match="no active quarantine 'nope'"):
        lift_quarantine(store, POLICY, "nope", who="bo", why="y", now=NOW)
    lift_quarantine(store, POLICY, entry.entry_id, who="bo", why="y", now=NOW)
    with pytest.raises(DatasetError, match="no active quarantine"):
        lift_quarantine(store, POLICY, entry.entry_id, who="bo", why="y", now=NOW)


@pytest.mark.parametrize(("begin", "end", "why"), [(2.0, 2.0, "x"), (3.0, 2.0, "x"), (1, 2, " ")])
def test_an_empty_range_or_reason_is_refused(
    store: DatasetStore, begin: float, end: float, why: str
) -> None:
    with pytest.raises(ValueError, match="expected"):
        add_quarantine(store, POLICY, begin=begin, end=end, who="ana", why=why, now=NOW)


def test_one_episode_of_a_range_is_left_out_and_the_dataset_named_for_it(
    store: DatasetStore,
) -> None:
    names = set()
    for episode_id, left in (("e1", ["e2", "e3"]), ("e2", ["e1", "e3"])):
        entry = add_quarantine(
            store, POLICY, begin=0, end=1e9, who="x", why="y", now=NOW, episode_id=episode_id
        )
        assert ids(store) == left
        names.add(read_dataset(store, POLICY).dataset_id)
        lift_quarantine(store, POLICY, entry.entry_id, who="x", why="z", now=NOW)
    assert len(names) == 2
