"""What the log is told: tags, what was drawn at random, and what the rules leave out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.declaration import Exploration, LoggingRules
from contract.privacy import is_logged
from contract.records import DecisionBatch, Outcome, Record, decode_record
from contract.segments import read_records
from tests import builders
from tests.service.running import Running, promote, running, settings_for

LEFT, RIGHT = [0.0, 0.0, -0.1, 0.0], [0.0, 0.0, 0.1, 0.0]


def serve(data: Path, **declared: Any) -> Any:
    builders.write_policy(data / "policies", builders.declaration(**declared))
    promote(data)
    return running(settings_for(data))


def logged(data: Path) -> list[Record]:
    return [
        decode_record(content)
        for folder in sorted((data / "spool").iterdir())
        for _, content in read_records(folder)
    ]


def decisions(data: Path) -> list[DecisionBatch]:
    return [record for record in logged(data) if isinstance(record, DecisionBatch)]


def test_tags_are_logged_with_every_row_of_their_request(tmp_path: Path) -> None:
    with serve(tmp_path) as service:
        service.act([LEFT, RIGHT], tags={"region": "north"})
        service.act([LEFT])
    tags: list[object] = []
    for batch in decisions(tmp_path):
        tags += batch.tags or [None] * sum(batch.row_counts)
    assert tags == [{"region": "north"}, {"region": "north"}, None]


@pytest.mark.parametrize("tags", [{"": "x"}, {"k" * 65: "x"}, {"k": "x" * 129}, {"k": 1}])
def test_tags_that_are_no_tags_are_refused(service: Running, tags: Any) -> None:
    assert service.act([LEFT], tags=tags).status_code == 422


def test_episodes_that_agree_explore_and_the_log_says_how(tmp_path: Path) -> None:
    with serve(tmp_path, exploration=Exploration(epsilon=0.2)) as service:
        ids = [f"e{number}" for number in range(400)]
        agreed = service.act([LEFT] * 400, episode_ids=ids, explore=True).json()
        assert set(service.act([LEFT] * 400, episode_ids=ids).json()["actions"]) == {0}
        assert service.act([LEFT], explore=True).status_code == 422
    # Two actions: 0.1 for each, and 0.8 for the greedy one.
    expected = np.where(np.array(agreed["actions"]) == 0, 0.9, 0.1)
    np.testing.assert_allclose(agreed["propensities"], expected)
    assert 10 < sum(agreed["actions"]) < 80
    found = {batch.epsilon: batch for batch in decisions(tmp_path)}
    assert found.keys() == {0.0, 0.2}
    np.testing.assert_allclose(found[0.2].propensities.array(), expected, rtol=1e-6)
    assert found[0.2].episode_ids == ids
    assert (found[0.0].propensities.array() == 1.0).all()


def test_a_policy_that_declares_no_exploration_does_not_explore(service: Running) -> None:
    answer = service.act([LEFT] * 50, episode_ids=["e"] * 50, explore=True).json()
    assert answer["actions"] == [0] * 50


def test_what_the_rules_leave_out_is_accepted_and_nowhere_in_the_log(tmp_path: Path) -> None:
    rules = LoggingRules(logged_share=0.5, observations=False, redacted_tags=("user",))
    ids = [f"e{number}" for number in range(40)]
    kept = [name for name in ids if is_logged(name, 0.5)]
    assert 0 < len(kept) < 40
    with serve(tmp_path, logging=rules) as service:
        service.act([LEFT] * 40, episode_ids=ids, steps=[0] * 40, tags={"user": "ada"})
        for name in ids:
            steps = f"/v1/episodes/{name}-own/steps"
            assert service.client.post(steps, json={"step": 0, "observation": LEFT}).is_success
        sent = [{"episode_id": name, "step": 0, "reward": 1.0} for name in ids]
        answer = service.client.post("/v1/outcomes", json={"outcomes": sent}).json()
        assert answer["accepted"] == 40
    batches = decisions(tmp_path)
    rows = {name for batch in batches for name in batch.episode_ids}
    assert rows == {*kept, *(f"{name}-own" for name in ids if is_logged(f"{name}-own", 0.5))}
    assert all(batch.observations.data == b"" and batch.logged_share == 0.5 for batch in batches)
    assert {str(tag) for batch in batches for tag in batch.tags or []} <= {
        "None", "{'user': 'redacted'}",
    }  # fmt: skip
    outcomes = [record.episode_id for record in logged(tmp_path) if isinstance(record, Outcome)]
    assert outcomes == kept
