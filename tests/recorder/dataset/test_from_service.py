"""From a real server's answers to a dataset: nothing between is made up."""

from pathlib import Path

import numpy as np

from cli.__main__ import main
from contract.join import JoinRules
from recorder.dataset.build import build
from recorder.dataset.load import read_dataset
from recorder.dataset.store import DatasetStore
from recorder.shards import sealed_policies
from tests.builders import POLICY
from tests.service.conftest import declare
from tests.service.process import process
from tests.service.running import wait_until

BRISK = {"DQN_RECORD_SEAL_SECONDS": "0.1", "DQN_RECORD_METRICS_PORT": "0"}


def seen(step: int) -> list[float]:
    return [0.5, -0.25, step / 4, 1.0]


def test_what_an_agent_lived_through_is_what_is_loaded(tmp_path: Path) -> None:
    declare(tmp_path)
    taken = []
    with process(tmp_path, "--record", **BRISK) as service:
        service.wait_until_ready()
        wait_until(lambda: "recording" in service.log(), "the recorder runs")
        for step in range(3):
            body = {"step": step, "observation": seen(step)}
            body |= {"reward": 10.0 + step} if step else {}
            answer = service.client.post("/v1/episodes/e/steps", json=body)
            assert answer.status_code == 200, answer.text
            taken.append(answer.json()["action"])
        last = {"step": 3, "reward": 13.0, "truncated": True, "final_observation": seen(3)}
        assert service.client.post("/v1/episodes/e/steps", json=last).status_code == 200
        assert service.stop() == 0
    assert main(["dataset", "build", "--data", str(tmp_path)]) == 0
    (episode,) = read_dataset(DatasetStore(tmp_path / "datasets"), POLICY).episodes()
    assert (episode.episode_id, episode.ending, episode.is_complete) == ("e", "truncated", True)
    found = episode.transitions
    np.testing.assert_array_equal(found.observations, [seen(0), seen(1), seen(2)])
    np.testing.assert_array_equal(found.next_observations, [seen(1), seen(2), seen(3)])
    assert found.actions.tolist() == taken
    assert found.rewards.tolist() == [11.0, 12.0, 13.0]
    assert found.truncated.tolist() == [False, False, True]
    assert found.propensities.tolist() == [1.0, 1.0, 1.0]
    assert sealed_policies(tmp_path / "shards") == [POLICY]
    shards = tmp_path / "shards"
    assert build(shards, DatasetStore(tmp_path / "datasets"), POLICY, 0.0, JoinRules()).parts == []
