"""The real minari and d3rlpy read what was exported."""

from pathlib import Path

import numpy as np
import pytest

from recorder.dataset.export_minari import export_minari
from recorder.dataset.export_table import export_table
from tests.recorder.dataset import packages
from tests.recorder.dataset.episodes import dataset_of, episode_records, observation

pytestmark = pytest.mark.slow


def test_minari_and_d3rlpy_find_what_was_logged_and_learn_from_it(tmp_path: Path) -> None:
    packages.install()
    dataset = dataset_of(
        tmp_path,
        *episode_records("a", [1.0, 2.0, 4.0]),
        *episode_records("b", [3.0, 5.0], begin=2000.0, ending="truncated", final=observation(7.0)),
        *episode_records("c", [6.0] * 20, begin=3000.0),
    )
    export_minari(dataset, tmp_path / "minari", "dqn/cartpole-v0")
    export_table(dataset, tmp_path / "table.parquet")
    found = packages.read_back(tmp_path / "minari", "dqn/cartpole-v0", tmp_path / "table.parquet")

    minari = found["minari"]
    assert (minari["total_episodes"], minari["total_steps"]) == (3, 25)
    assert minari["space"] == "Discrete(2)"
    assert minari["observation_dtype"] == "float32"
    assert minari["rewards"] == [[1.0, 2.0, 4.0], [3.0, 5.0], [6.0] * 20]
    assert minari["actions"][:2] == [[0, 1, 0], [0, 1]]
    assert minari["terminations"][:2] == [[False, False, True], [False, False]]
    assert minari["truncations"][:2] == [[False, False, False], [False, True]]
    expected = [observation(2000.0), observation(2001.0), observation(7.0)]
    np.testing.assert_array_equal(np.array(minari["observations"][1], np.float32), expected)
    assert minari["propensities"][1][:2] == [0.75, 0.75]
    assert minari["behaviours"][1][:2] == ["cartpole@3"] * 2

    for name in ("minari", "table"):
        learned = found[name]["learned"]
        assert learned["episodes"] == 3
        assert learned["returns"] == [7.0, 8.0, 120.0]
        assert learned["terminated"] == [True, False, True]
        assert set(learned["actions"]) <= {0, 1}
    assert {row["mdp_id"] for row in found["table"]["rows"]} == {"a", "b", "c"}


def test_minari_reads_frames_bit_for_bit(tmp_path: Path) -> None:
    packages.install()
    # d3rlpy's convolutions need 36 x 36.
    frames = np.random.default_rng(6).integers(0, 256, (9, 36, 40), np.uint8)
    stacks = np.stack([frames[step : step + 4] for step in range(6)])
    dataset = dataset_of(
        tmp_path,
        *episode_records(
            "e", [1.0] * 5, observations=stacks[:5], ending="truncated", final=stacks[5]
        ),
    )
    export_minari(dataset, tmp_path / "minari", "dqn/frames-v0")
    found = packages.read_back(tmp_path / "minari", "dqn/frames-v0")
    assert found["minari"]["observation_dtype"] == "uint8"
    np.testing.assert_array_equal(found["minari"]["observations"][0], stacks)
    assert found["minari"]["learned"]["returns"] == [5.0]
