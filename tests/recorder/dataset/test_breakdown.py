from pathlib import Path

import pytest

from recorder.dataset.breakdown import Group, break_down
from recorder.dataset.load import Selection, read_dataset
from recorder.dataset.store import DatasetStore
from tests.builders import MODEL, POLICY
from tests.recorder.dataset.episodes import HEURISTIC, Log, built, episode_records


@pytest.fixture
def store(tmp_path: Path) -> DatasetStore:
    """Two parts: three episodes in the north, one in the south, one that says nothing."""
    log, store = Log(tmp_path / "shards"), DatasetStore(tmp_path / "datasets")
    north, south = [{"region": "north"}], [{"region": "south", "client": "web"}]
    log.seal(
        [
            *episode_records("a", [1.0, 1.0], tags=north),
            *episode_records("b", [4.0], begin=2000.0, tags=south, answered_by=HEURISTIC),
        ]
    )
    built(log, store)
    log.seal(
        [
            *episode_records("c", [1.0, 5.0], begin=3000.0, tags=north),
            *episode_records("d", [7.0], begin=4000.0, tags=north, answered_by=HEURISTIC),
            *episode_records("e", [0.0], begin=5000.0),
        ]
    )
    built(log, store)
    return store


def test_steps_are_counted_by_the_value_of_a_tag(store: DatasetStore) -> None:
    assert break_down(read_dataset(store, POLICY), "region") == [
        Group("north", num_steps=5, num_episodes=3, mean_reward=3.0, heuristic_share=0.2),
        Group("-", num_steps=1, num_episodes=1, mean_reward=0.0, heuristic_share=0.0),
        Group("south", num_steps=1, num_episodes=1, mean_reward=4.0, heuristic_share=1.0),
    ]
    assert [group.value for group in break_down(read_dataset(store, POLICY), "client")] == [
        "-",
        "web",
    ]


def test_steps_are_counted_by_who_acted_and_why(store: DatasetStore) -> None:
    dataset = read_dataset(store, POLICY)

    def counts(by: str) -> dict[str, int]:
        return {group.value: group.num_steps for group in break_down(dataset, by)}

    assert counts("behaviour") == {MODEL.behaviour: 5, HEURISTIC.behaviour: 2}
    assert counts("reason") == {"-": 5, "deadline": 2}
    assert counts("version") == {"3": 5, "-": 2}


def test_only_what_is_selected_is_counted(store: DatasetStore) -> None:
    dataset = read_dataset(store, POLICY, Selection(begin=3000.0, end=5000.0))
    (group,) = break_down(dataset, "region")
    assert (group.value, group.num_steps, group.num_episodes) == ("north", 3, 2)
