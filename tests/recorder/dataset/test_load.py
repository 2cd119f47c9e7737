from pathlib import Path

import numpy as np
import pytest

from recorder.dataset import tables
from recorder.dataset.load import Dataset, Selection, read_dataset
from recorder.dataset.manifest import DatasetError
from recorder.dataset.store import DatasetStore
from recorder.dataset.transitions import LoggedTransitions
from tests.builders import MODEL, POLICY
from tests.recorder.dataset.episodes import (
    HEURISTIC,
    Log,
    built,
    dataset_of,
    episode_records,
    observation,
)


def three_parts(tmp_path: Path) -> DatasetStore:
    """Episodes a to f of 5 steps each, two a part; the reward is the episode's number."""
    log, store = Log(tmp_path / "shards"), DatasetStore(tmp_path / "datasets")
    for number in range(0, 6, 2):
        records = [
            record
            for each in (number, number + 1)
            for record in episode_records("abcdef"[each], [each] * 5, begin=1000.0 * (each + 1))
        ]
        log.seal(records)
        built(log, store)
    return store


def ids(dataset: Dataset) -> list[str]:
    return [episode.episode_id for episode in dataset.episodes()]


def check_transitions(found: LoggedTransitions) -> None:
    """Each transition's observations are those of its own time and step."""
    for row, time in enumerate(found.times):
        np.testing.assert_array_equal(found.observations[row], observation(time))
        expected = observation(time + 1) if found.has_next_observations[row] else np.zeros(4)
        np.testing.assert_array_equal(found.next_observations[row], expected)
        assert found.terminated[row] == (found.steps[row] == 4)
        assert found.rewards[row] == time // 1000 - 1


def test_everything_is_loaded_at_once_in_order(tmp_path: Path) -> None:
    found = read_dataset(three_parts(tmp_path), POLICY).load()
    assert found.rewards.tolist() == [number for number in range(6) for _ in range(5)]
    assert found.episodes.tolist() == [number for number in range(6) for _ in range(5)]
    check_transitions(found)


def test_batches_hold_every_transition_once_and_are_repeatable_by_their_seed(
    tmp_path: Path,
) -> None:
    dataset = read_dataset(three_parts(tmp_path), POLICY)

    def drawn(seed: int | None) -> list[float]:
        rng = None if seed is None else np.random.default_rng(seed)
        batches = list(dataset.batches(4, rng))
        assert [len(batch.times) for batch in batches] == [4, 4, 2] * 3
        for batch in batches:
            check_transitions(batch)
        return [time for batch in batches for time in batch.times.tolist()]

    in_order = [1000.0 * number + step for number in range(1, 7) for step in range(5)]
    assert drawn(None) == in_order
    assert sorted(drawn(1)) == in_order
    assert drawn(1) == drawn(1) != drawn(2)
    assert drawn(1) != in_order


def test_draws_at_random_reach_every_part_and_stay_whole(tmp_path: Path) -> None:
    sampler = read_dataset(three_parts(tmp_path), POLICY).sampler()
    assert len(sampler) == 30
    found = sampler.sample(500, np.random.default_rng(3))
    check_transitions(found)
    counts = np.bincount(found.episodes, minlength=6)
    # 500 / 6 each, five standard errors of 8.3.
    assert counts.min() > 40
    assert counts.max() < 125


def test_indices_of_several_parts_come_back_in_the_order_asked_for(tmp_path: Path) -> None:
    sampler = read_dataset(three_parts(tmp_path), POLICY).sampler()
    found = sampler.take(np.array([29, 0, 15, 0, 28]))
    assert found.times.tolist() == [6004.0, 1000.0, 4000.0, 1000.0, 6003.0]
    check_transitions(found)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(begin=3000.0), "cdef"),
        (Selection(begin=3000.5), "def"),
        (Selection(end=3000.0), "ab"),
        (Selection(end=4000.0), "abc"),
        (Selection(begin=2000.0, end=5000.0), "bcd"),
    ],
)
def test_episodes_are_selected_by_when_they_began(
    selection: Selection, expected: str, tmp_path: Path
) -> None:
    dataset = read_dataset(three_parts(tmp_path), POLICY, selection)
    assert ids(dataset) == list(expected)
    assert len(dataset.sampler()) == 5 * len(expected)
    assert len(dataset.load().times) == 5 * len(expected)


def test_episodes_are_selected_by_who_acted_and_whether_they_are_whole(tmp_path: Path) -> None:
    mixed = episode_records("mixed", [1.0, 1.0])
    mixed[2:] = episode_records("mixed", [1.0, 1.0], answered_by=HEURISTIC)[2:]
    torn = episode_records("torn", [1.0, 1.0, 1.0], begin=2000.0)
    # The outcome of the middle step never came.
    del torn[3]
    records = [*mixed, *torn, *episode_records("whole", [1.0], begin=9000.0)]
    # An hour of silence closes what is torn.
    log, store = Log(tmp_path / "shards"), DatasetStore(tmp_path / "datasets")
    log.seal(records)
    log.seal(episode_records("later", [1.0], begin=20_000.0))
    built(log, store)

    def selected(selection: Selection) -> set[str]:
        return set(ids(read_dataset(store, POLICY, selection)))

    model = frozenset({MODEL.behaviour})
    assert selected(Selection()) == {"mixed", "torn", "whole", "later"}
    assert selected(Selection(behaviours=model)) == {"torn", "whole", "later"}
    assert selected(Selection(behaviours=model, is_complete=True)) == {"whole", "later"}
    assert selected(Selection(is_complete=False)) == {"torn"}


def test_a_dataset_is_named_for_exactly_what_it_holds(tmp_path: Path) -> None:
    store = three_parts(tmp_path)
    whole = read_dataset(store, POLICY)
    assert whole.dataset_id == read_dataset(store, POLICY).dataset_id
    some = read_dataset(store, POLICY, Selection(end=3000.0))
    assert some.dataset_id != whole.dataset_id
    assert whole.dataset_id.startswith("cartpole-")


def test_parts_that_come_later_do_not_change_what_was_read(tmp_path: Path) -> None:
    log, store = Log(tmp_path / "shards"), DatasetStore(tmp_path / "datasets")
    log.seal(episode_records("a", [1.0]))
    built(log, store)
    dataset = read_dataset(store, POLICY)
    log.seal(episode_records("b", [1.0], begin=2000.0))
    built(log, store)
    assert ids(dataset) == ["a"]
    assert ids(read_dataset(store, POLICY)) == ["a", "b"]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    store = three_parts(tmp_path)
    with pytest.raises(DatasetError, match="pong: no part"):
        read_dataset(store, "pong")
    with pytest.raises(DatasetError, match="cartpole: no part"):
        read_dataset(store, POLICY, Selection(begin=7000.0))
    with pytest.raises(DatasetError, match="no episode is selected"):
        read_dataset(store, POLICY, Selection(is_complete=False)).load()


def test_stacks_of_frames_are_loaded_as_they_were_acted_on(tmp_path: Path) -> None:
    frames = np.random.default_rng(4).integers(0, 256, (103, 20, 20), np.uint8)
    stacks = np.stack([frames[step : step + 4] for step in range(100)])
    dataset = dataset_of(
        tmp_path, *episode_records("e", [1.0] * 100, observations=stacks, ending="truncated")
    )
    assert dataset.manifests[0].num_rows == 103
    found = dataset.load()
    np.testing.assert_array_equal(found.observations, stacks)
    np.testing.assert_array_equal(found.next_observations[:-1], stacks[1:])
    order = np.random.default_rng(5).permutation(100)
    taken = dataset.sampler().take(order)
    np.testing.assert_array_equal(taken.observations, stacks[order])


def test_a_part_of_many_row_groups_is_read_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_ROW_GROUP", 3)
    acted = [MODEL, HEURISTIC, MODEL, HEURISTIC]
    dataset = dataset_of(
        tmp_path,
        *(
            record
            for number, who in enumerate(acted)
            for record in episode_records(
                f"e{number}", [number] * 5, begin=1000.0 * (number + 1), answered_by=who
            )
        ),
    )
    found = dataset.load()
    assert [dataset.behaviours[code] for code in found.behaviours[::5]] == [
        who.behaviour for who in acted
    ]
    check_transitions(found)
    assert [episode.behaviours for episode in dataset.episodes()] == [
        (who.behaviour,) for who in acted
    ]
