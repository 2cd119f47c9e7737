from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from contract.join import JoinRules
from contract.records import Column, Record
from contract.rewards import RewardRules
from recorder.dataset.load import read_dataset
from recorder.dataset.manifest import DatasetError
from recorder.dataset.parts import read_tables
from recorder.dataset.store import DatasetStore
from recorder.dataset.tables import STEPS
from tests.builders import POLICY, decision_batch, outcome
from tests.recorder.dataset.episodes import (
    HEURISTIC,
    Log,
    built,
    dataset_of,
    episode_records,
    observation,
    reported,
    sealed_log,
)


def contents(store: DatasetStore) -> dict[str, list[float]]:
    """Each episode's rewards, by id; fails where an episode is there twice."""
    episodes = list(read_dataset(store, POLICY).episodes())
    counts = Counter(each.episode_id for each in episodes)
    assert max(counts.values()) == 1, counts
    return {each.episode_id: each.transitions.rewards.tolist() for each in episodes}


def test_an_episode_has_all_that_was_logged_of_it(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, *episode_records("e", [1.0, 2.0, 4.0]))
    (episode,) = dataset.episodes()
    assert (episode.episode_id, episode.ending, episode.is_complete) == ("e", "terminated", True)
    assert (episode.started_at, episode.ended_at) == (1000.0, 1002.5)
    assert episode.episode_return == 7.0
    found = episode.transitions
    expected = np.stack([observation(1000.0 + step) for step in range(3)])
    np.testing.assert_array_equal(found.observations, expected)
    np.testing.assert_array_equal(found.next_observations[:2], expected[1:])
    np.testing.assert_array_equal(found.next_observations[2], np.zeros(4))
    assert found.has_next_observations.tolist() == [True, True, False]
    assert found.can_be_learned_from.all()
    assert found.actions.tolist() == [0, 1, 0]
    assert found.rewards.tolist() == [1.0, 2.0, 4.0]
    assert found.terminated.tolist() == [False, False, True]
    assert not found.truncated.any()
    assert found.propensities.tolist() == [0.75] * 3
    assert found.q_values.tolist() == [[0.0, -1.0], [1.0, -1.0], [2.0, -1.0]]
    assert found.versions.tolist() == [3] * 3
    assert found.steps.tolist() == [0, 1, 2]
    assert found.times.tolist() == [1000.0, 1001.0, 1002.0]
    assert [dataset.behaviours[code] for code in found.behaviours] == ["cartpole@3"] * 3


def test_what_else_was_logged_of_a_decision_is_there_too(tmp_path: Path) -> None:
    dataset = dataset_of(
        tmp_path,
        *episode_records(
            "masked",
            [1.0],
            action_masks=Column.of(np.array([[False, True]])),
            epsilon=0.125,
            tags=[{"region": "north"}],
            logged_share=0.5,
        ),
        *episode_records("plain", [1.0], begin=2000.0),
    )
    found = dataset.load()
    assert found.action_masks.tolist() == [[False, True], [True, True]]
    assert found.epsilons.tolist() == [0.125, 0.0]
    assert found.logged_shares.tolist() == [0.5, 1.0]
    steps = read_tables(dataset.store, dataset.manifests[0])[STEPS]
    assert steps["tags"].to_pylist() == [[("region", "north")], None]
    assert steps["reported_at"].to_pylist() == [1000.5, 2000.5]


def test_a_truncated_step_has_what_was_seen_last_and_can_not_be_learned_from_without(
    tmp_path: Path,
) -> None:
    dataset = dataset_of(
        tmp_path,
        *episode_records("seen", [1.0, 2.0], ending="truncated", final=observation(9.0)),
        *episode_records("unseen", [1.0, 2.0], ending="truncated", begin=2000.0),
    )
    seen, unseen = (episode.transitions for episode in dataset.episodes())
    np.testing.assert_array_equal(seen.next_observations[1], observation(9.0))
    assert seen.can_be_learned_from.tolist() == [True, True]
    assert unseen.can_be_learned_from.tolist() == [True, False]
    assert unseen.truncated.tolist() == [False, True]


def test_one_last_frame_completes_the_stack(tmp_path: Path) -> None:
    frames = np.arange(6 * 2 * 3, dtype=np.uint8).reshape(6, 2, 3)
    stacks = np.stack([frames[step : step + 4] for step in range(2)])
    dataset = dataset_of(
        tmp_path,
        *episode_records("e", [1.0, 2.0], observations=stacks, ending="truncated", final=frames[5]),
    )
    (episode,) = dataset.episodes()
    np.testing.assert_array_equal(episode.transitions.next_observations[1], frames[2:6])
    assert dataset.manifests[0].num_rows == 6


def test_who_acted_is_told_apart_by_step(tmp_path: Path) -> None:
    records = [
        *episode_records("model", [1.0, 1.0]),
        *episode_records("heuristic", [5.0], begin=2000.0, answered_by=HEURISTIC),
    ]
    dataset = dataset_of(tmp_path, *records)
    manifest = dataset.manifests[0]
    assert manifest.behaviours == {"cartpole@3": 2, HEURISTIC.behaviour: 1}
    assert manifest.versions == {"3": 2, "none": 1}
    assert manifest.sources == {"model": 2, "heuristic": 1}
    assert dataset.load().versions.tolist() == [3, 3, -1]


def test_every_way_of_cutting_the_log_gives_the_same_episodes(tmp_path: Path) -> None:
    records: list[Record] = [
        record
        for three in zip(
            episode_records("a", [1.0, 2.0, 3.0, 4.0]),
            episode_records("b", [10.0, 20.0, 30.0, 40.0], begin=1000.2),
            episode_records("c", [7.0, 7.0, 7.0, 8.0], begin=1000.4),
            strict=True,
        )
        for record in three
    ]
    expected = {"a": [1, 2, 3, 4], "b": [10, 20, 30, 40], "c": [7, 7, 7, 8]}
    for every in (1, 2, 5, 7, 24):
        folder = tmp_path / str(every)
        log, store = Log(folder / "shards"), DatasetStore(folder / "datasets")
        for start in range(0, len(records), every):
            log.seal(records[start : start + every])
            built(log, store)
        assert contents(store) == expected, every
        assert built(log, store).parts == []


def test_shards_that_hold_nothing_open_are_not_read_again(tmp_path: Path) -> None:
    log = sealed_log(tmp_path / "shards", episode_records("a", [1.0]))
    store = DatasetStore(tmp_path / "datasets")
    built(log, store)
    log.seal(episode_records("b", [2.0], begin=2000.0))
    report = built(log, store)
    assert report.counts["joined"] == 1
    assert [source.number for source in report.parts[0].shards] == [2]


def test_a_build_that_was_cut_off_before_it_noted_how_far_it_came_doubles_nothing(
    tmp_path: Path,
) -> None:
    log = sealed_log(tmp_path / "shards", episode_records("a", [1.0, 2.0]))
    store = DatasetStore(tmp_path / "datasets")
    built(log, store)
    (tmp_path / "datasets" / POLICY / "progress.json").unlink()
    log.seal(episode_records("b", [5.0], begin=3000.0))
    built(log, store)
    assert contents(store) == {"a": [1, 2], "b": [5]}


def test_the_same_episodes_are_the_same_part_wherever_they_are_built(tmp_path: Path) -> None:
    log = sealed_log(tmp_path / "shards", episode_records("a", [1.0, 2.0]))
    one, other = (built(log, DatasetStore(tmp_path / name)) for name in ("one", "other"))
    assert one.parts == other.parts


def test_an_outcome_that_came_before_its_decision_is_found_in_the_next_build(
    tmp_path: Path,
) -> None:
    decision, late_outcome, *rest = episode_records("e", [1.0, 2.0])
    log, store = Log(tmp_path / "shards"), DatasetStore(tmp_path / "datasets")
    for records in ([late_outcome], [decision], rest):
        log.seal(records)
        built(log, store)
    assert contents(store) == {"e": [1, 2]}


def test_a_silent_episode_is_closed_as_timed_out_only_once_everything_newer_is(
    tmp_path: Path,
) -> None:
    records = episode_records("silent", [1.0, 2.0, 3.0], ending=None)
    log, store = Log(tmp_path / "shards"), DatasetStore(tmp_path / "datasets")
    log.seal(records[:4])
    rules = JoinRules(episode_timeout_seconds=100.0)
    # A producer that could not ship comes with old records beside new ones.
    log.seal([*episode_records("new", [1.0], begin=5000.0), *records[4:]])
    assert {part.num_episodes for part in built(log, store, rules=rules).parts} == {1}
    log.seal(episode_records("newer", [1.0], begin=6000.0))
    built(log, store, rules=rules)
    episodes = {each.episode_id: each for each in read_dataset(store, POLICY).episodes()}
    assert set(episodes) == {"silent", "new", "newer"}
    assert episodes["silent"].ending == "timed_out"
    # The last step's successor never came, so that the join never finished it, or without it.
    assert episodes["silent"].transitions.has_next_observations.tolist() == [True, True, False]


def test_a_decision_without_an_episode_is_one_by_itself(tmp_path: Path) -> None:
    dataset = dataset_of(
        tmp_path,
        decision_batch([observation(1.0), observation(2.0)], decision_ids=["d"], row_counts=[2]),
        outcome(3.0, decision_id="d", row=1),
    )
    (episode,) = dataset.episodes()
    assert (episode.episode_id, episode.ending) == ("decision:d/1", "timed_out")
    np.testing.assert_array_equal(episode.transitions.observations, [observation(2.0)])
    assert not episode.transitions.can_be_learned_from.any()


def test_transitions_that_agents_reported_whole_become_episodes(tmp_path: Path) -> None:
    log = Log(tmp_path / "shards")
    store = DatasetStore(tmp_path / "datasets")
    log.seal([reported(1), reported(2, terminated=True)])
    assert built(log, store).parts == []
    log.seal([reported(0), reported(5, transition_id="lone", episode_id=None, reward=9.0)])
    built(log, store)
    assert contents(store) == {"agent-1": [1.0, 2.0, 3.0], "transition:lone": [9.0]}
    first, _ = read_dataset(store, POLICY).episodes()
    assert (first.ending, first.is_complete) == ("terminated", True)
    assert np.isnan(first.transitions.propensities).all()
    np.testing.assert_array_equal(
        first.transitions.observations, [observation(step) for step in range(3)]
    )


def test_steps_of_another_schema_are_left_out_and_counted(tmp_path: Path) -> None:
    records = episode_records("e", [1.0, 2.0, 3.0])
    strange = decision_batch(
        np.zeros((1, 7), np.float32),
        decision_ids=["e-1"],
        episode_ids=["e"],
        steps=[1],
        time=1001.0,
        schema_hash="another",
    )
    log = sealed_log(tmp_path / "shards", [*records[:2], strange, *records[3:]])
    store = DatasetStore(tmp_path / "datasets")
    # The step before it has a next observation that its episode's tables cannot hold.
    assert built(log, store).num_strangers == 2
    assert contents(store) == {"e": [3.0]}
    (episode,) = read_dataset(store, POLICY).episodes()
    assert (episode.is_complete, episode.episode_return) == (False, 3.0)


@pytest.mark.parametrize("root", ["memory://datasets-{name}", "{tmp_path}"])
def test_a_dataset_lies_in_a_folder_or_behind_any_url(root: str, tmp_path: Path) -> None:
    store = DatasetStore(root.format(tmp_path=tmp_path / "datasets", name=tmp_path.name))
    log = sealed_log(tmp_path / "shards", episode_records("a", [1.0, 2.0]))
    built(log, store)
    built(log, store)
    assert store.policies() == [POLICY]
    assert contents(store) == {"a": [1, 2]}


def test_a_task_that_never_ends_is_cut_into_pieces_and_none_is_doubled(tmp_path: Path) -> None:
    records = episode_records("task", list(range(11)), ending=None)
    rules = JoinRules(rewards=RewardRules(horizon_steps=3))
    for every in (1, 4, 9, 22):
        folder = tmp_path / str(every)
        log, store = Log(folder / "shards"), DatasetStore(folder / "datasets")
        for start in range(0, len(records), every):
            log.seal(records[start : start + every])
            built(log, store, rules=rules)
        if every == 1:
            # Neither is all of an endless task read again each time.
            log.seal([outcome(0.0, time=1011.0, episode_id="other", step=0)])
            report = built(log, store, rules=rules)
            assert report.counts["joined"] < 11
        # The last two steps are of a piece that is still open.
        assert contents(store) == {"task#0": [0, 1, 2], "task#1": [3, 4, 5], "task#2": [6, 7, 8]}
        for episode in read_dataset(store, POLICY).episodes():
            first = episode.transitions.steps[0]
            expected = [observation(1000.0 + first + step) for step in range(3)]
            np.testing.assert_array_equal(episode.transitions.observations, expected)
            assert episode.transitions.has_next_observations.all()


def test_two_builds_of_one_policy_do_not_run_at_once(tmp_path: Path) -> None:
    log = sealed_log(tmp_path / "shards", episode_records("a", [1.0]))
    store = DatasetStore(tmp_path / "datasets")
    with (
        store.only_writer(POLICY),
        pytest.raises(DatasetError, match="is being written by another"),
    ):
        built(log, DatasetStore(tmp_path / "datasets"))
    built(log, store)
    assert contents(store) == {"a": [1]}


def test_a_log_without_observations_still_tells_what_was_done_and_earned(tmp_path: Path) -> None:
    blank = np.zeros((3, 0), np.uint8)
    dataset = dataset_of(tmp_path, *episode_records("e", [1.0, 2.0, 4.0], observations=blank))
    found = dataset.load()
    assert found.observations.shape == found.next_observations.shape == (3, 0)
    assert found.rewards.tolist() == [1.0, 2.0, 4.0]
    assert found.actions.tolist() == [0, 1, 0]
