import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from contract.records import Column, Record
from recorder.dataset.export_minari import MinariReport, export_minari
from recorder.dataset.export_table import export_table
from recorder.dataset.load import Dataset, read_dataset
from recorder.dataset.manifest import DatasetError
from recorder.dataset.store import DatasetStore
from tests.builders import POLICY
from tests.recorder.dataset.episodes import (
    HEURISTIC,
    Log,
    built,
    dataset_of,
    episode_records,
    observation,
)


def logged(tmp_path: Path) -> Dataset:
    """`done` ends truly, `cut` by a limit that told its last observation, `lost` misses step 2."""
    lost: list[Record] = episode_records("lost", [1.0] * 5, begin=3000.0)
    del lost[4:6]
    records = [
        *episode_records("done", [1.0, 2.0, 4.0]),
        *episode_records(
            "cut",
            [3.0, 5.0],
            begin=2000.0,
            ending="truncated",
            final=observation(7.0),
            answered_by=HEURISTIC,
        ),
        *lost,
    ]
    log, store = Log(tmp_path / "shards"), DatasetStore(tmp_path / "datasets")
    log.seal(records)
    # An hour of silence closes what misses a step.
    log.seal(episode_records("later", [9.0], begin=20_000.0))
    built(log, store)
    return read_dataset(store, POLICY)


def test_the_table_has_the_customary_columns_a_row_a_step(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    assert export_table(logged(tmp_path), path) == 3 + 2 + 4 + 1
    rows = pq.read_table(path).to_pylist()
    first = rows[0]
    assert first["mdp_id"] == "done"
    assert [row["sequence_number"] for row in rows[:3]] == [0, 1, 2]
    assert first["ds"] == "1970-01-01"
    np.testing.assert_allclose([value for _, value in first["state_features"]], observation(1000.0))
    assert [key for key, _ in first["state_features"]] == [0, 1, 2, 3]
    assert [row["action"] for row in rows[:3]] == ["0", "1", "0"]
    assert [row["reward"] for row in rows[:3]] == [1.0, 2.0, 4.0]
    assert first["possible_actions"] == ["0", "1"]
    assert first["action_probability"] == 0.75
    assert [row["behaviour"] for row in rows[:5]] == ["cartpole@3"] * 3 + [HEURISTIC.behaviour] * 2
    assert [row["terminated"] for row in rows[:5]] == [False, False, True, False, False]
    assert [row["truncated"] for row in rows[:5]] == [False, False, False, False, True]


def test_actions_that_were_not_legal_are_not_possible_in_the_table(tmp_path: Path) -> None:
    masks = Column.of(np.array([[False, True]]))
    dataset = dataset_of(tmp_path, *episode_records("e", [1.0], actions=[1], action_masks=masks))
    export_table(dataset, tmp_path / "table.parquet")
    (row,) = pq.read_table(tmp_path / "table.parquet").to_pylist()
    assert row["possible_actions"] == ["1"]


def test_frames_do_not_fit_into_a_table(tmp_path: Path) -> None:
    stacks = np.zeros((2, 4, 84, 84), np.uint8)
    dataset = dataset_of(tmp_path, *episode_records("e", [1.0, 1.0], observations=stacks))
    with pytest.raises(DatasetError, match=r"shape \(4, 84, 84\) do not fit"):
        export_table(dataset, tmp_path / "table.parquet")
    assert list(tmp_path.glob("*table*")) == []


def test_minari_gets_pieces_whose_every_step_can_be_learned_from(tmp_path: Path) -> None:
    root = tmp_path / "minari"
    report = export_minari(logged(tmp_path), root, "dqn/cartpole-v0")
    # Of `lost` the steps 0 to 1 and 3 to 4 are two pieces; step 1 knows not what followed.
    assert report == MinariReport(num_episodes=5, num_steps=9, num_left_out=1)
    data = root / "dqn" / "cartpole-v0" / "data"
    metadata = json.loads((data / "metadata.json").read_text())
    assert (metadata["total_episodes"], metadata["total_steps"]) == (5, 9)
    assert metadata["jpeg_encoding"] is False
    assert json.loads(metadata["action_space"])["n"] == 2
    cut = pq.read_table(data / "1" / "part-0.parquet").to_pydict()
    np.testing.assert_allclose(
        cut["observations"], [observation(2000.0), observation(2001.0), observation(7.0)]
    )
    assert cut["truncations"][:-1] == [False, True]
    first_of_lost = pq.read_table(data / "2" / "part-0.parquet").to_pydict()
    assert first_of_lost["truncations"][:-1] == [True]
    assert first_of_lost["terminations"][:-1] == [False]


def test_an_export_to_a_name_that_is_taken_changes_nothing(tmp_path: Path) -> None:
    dataset = logged(tmp_path)
    export_minari(dataset, tmp_path / "minari", "dqn/cartpole-v0")
    with pytest.raises(DatasetError, match="there is a dataset of that name"):
        export_minari(dataset, tmp_path / "minari", "dqn/cartpole-v0")
    assert len(list((tmp_path / "minari" / "dqn").iterdir())) == 1
