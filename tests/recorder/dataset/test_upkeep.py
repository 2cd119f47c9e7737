"""Datasets are built without a person, and what is old goes."""

import os
import time
from pathlib import Path

from contract.declaration import LoggingRules, write_declaration
from recorder.building import Builds
from recorder.dataset.load import read_dataset
from recorder.dataset.store import DatasetStore
from recorder.dataset.upkeep import Upkeep, keep_up
from recorder.settings import RecorderSettings
from recorder.shards import raw_folder, shard_numbers, shard_path
from tests.builders import POLICY, declaration
from tests.recorder.dataset.episodes import NOW, Log, episode_records, sealed_log

DAY = 86400.0


def kept(data: Path, log: Log, *, days_later: float, raw_days: float = 30.0) -> Upkeep:
    """All shards are sealed at NOW."""
    now = NOW + days_later * DAY
    store = DatasetStore(data / "datasets")
    return keep_up(data, log.folder, store, POLICY, now=now, raw_days=raw_days)


def numbers(log: Log) -> list[int]:
    return shard_numbers(raw_folder(log.folder, POLICY))


def three_shards(data: Path) -> Log:
    folder = data / "policies" / POLICY
    folder.mkdir(parents=True)
    write_declaration(folder, declaration(logging=LoggingRules(retention_days=1e6)))
    episodes = [episode_records(f"e{number}", [1.0, 2.0], begin=NOW) for number in range(3)]
    return sealed_log(data / "shards", *episodes)


def test_old_shards_go_once_they_are_in_the_dataset_and_the_newest_stays(tmp_path: Path) -> None:
    log = three_shards(tmp_path)
    assert kept(tmp_path, log, days_later=29).num_shards_removed == 0
    assert numbers(log) == [1, 2, 3]
    assert kept(tmp_path, log, days_later=31).num_shards_removed == 2
    assert numbers(log) == [3]
    assert kept(tmp_path, log, days_later=99).num_shards_removed == 0
    found = read_dataset(DatasetStore(tmp_path / "datasets"), POLICY).episodes()
    assert sorted(each.episode_id for each in found) == ["e0", "e1", "e2"]


def test_a_shard_that_an_open_episode_needs_is_kept(tmp_path: Path) -> None:
    log = three_shards(tmp_path)
    log.seal(episode_records("open", [1.0], begin=NOW - 10, ending=None))
    log.seal(episode_records("e4", [1.0], begin=NOW))
    assert kept(tmp_path, log, days_later=31).num_shards_removed == 0
    assert numbers(log) == [1, 2, 3, 4, 5]


def test_raw_shards_are_kept_no_longer_than_their_episodes_may_be(tmp_path: Path) -> None:
    log = three_shards(tmp_path)
    rules = LoggingRules(retention_days=7)
    write_declaration(tmp_path / "policies" / POLICY, declaration(logging=rules))
    assert kept(tmp_path, log, days_later=6).num_shards_removed == 0
    done = kept(tmp_path, log, days_later=8)
    assert (done.num_shards_removed, len(done.expired)) == (2, 1)


def test_a_shard_that_was_taken_out_by_hand_hides_none_that_follow(tmp_path: Path) -> None:
    folder = raw_folder(three_shards(tmp_path).folder, POLICY)
    assert shard_numbers(folder, after=1) == [2, 3]
    (folder / "000000000002.shard").unlink()
    assert shard_numbers(folder, after=1) == [3]


def test_the_recorder_builds_datasets_in_a_process_of_its_own(tmp_path: Path) -> None:
    three_shards(tmp_path)
    settings = RecorderSettings(data=tmp_path, dataset_seconds=3600.0)
    builds = Builds(settings, now=0.0)
    store = DatasetStore(tmp_path / "datasets")
    builds.look(now=299.0)
    assert builds._process is None
    builds.look(now=300.0)
    process = builds._process
    assert process is not None
    process.join()
    assert len(store.parts(POLICY)) == 1
    builds.look(now=3899.0)
    assert builds._process is None
    builds.close()


def test_a_build_that_hangs_is_broken_off_and_the_next_one_builds(tmp_path: Path) -> None:
    log = three_shards(tmp_path)
    builds = Builds(RecorderSettings(data=tmp_path, dataset_limit_seconds=3000.0), now=0.0)
    # A read that never returns: nobody writes into this pipe.
    pipe = shard_path(raw_folder(log.folder, POLICY), 4)
    os.mkfifo(pipe)
    builds.look(now=300.0)
    process = builds._process
    assert process is not None
    builds.look(now=3299.0)
    assert process.is_alive()
    builds.look(now=3300.0)
    process.join()
    pipe.unlink()
    builds.look(now=3900.0)
    process = builds._process
    assert process is not None
    process.join()
    assert len(DatasetStore(tmp_path / "datasets").parts(POLICY)) == 1
    builds.close()


def test_a_build_is_not_begun_where_people_build(tmp_path: Path) -> None:
    three_shards(tmp_path)
    builds = Builds(RecorderSettings(data=tmp_path, dataset_seconds=0.0), now=0.0)
    builds.look(now=time.monotonic() + 1e6)
    assert builds._process is None
