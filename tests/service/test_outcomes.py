import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.join import Join
from contract.records import decode_record
from contract.segments import read_records
from contract.transitions import Transition
from tests.service.conftest import declare
from tests.service.running import Running, running, settings_for

PLACE = {"episode_id": "e", "step": 0}


def transition(**changes: Any) -> dict[str, Any]:
    fields = {
        "transition_id": "t",
        "observation": [1, 2, 3, 4],
        "action": 1,
        "reward": 0.5,
        "next_observation": [5, 6, 7, 8],
    }
    return fields | changes


@pytest.mark.parametrize("has_lane", [True, False])
@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"reward": 1.0}, ["decision_id", "episode_id"]),
        ({"reward": 1.0, "decision_id": "d", **PLACE}, ["either decision_id"]),
        ({"reward": 1.0, "episode_id": "e"}, ["episode_id and step"]),
        ({**PLACE}, ["reward"]),
        ({**PLACE, "reward": "much"}, ["$.reward", "float", "str"]),
        ({**PLACE, "reward": 1e31}, ["$.reward", "1e+30"]),
        ({**PLACE, "reward": 1.0, "colour": 1}, ["colour"]),
        ({"episode_id": "e", "step": -1, "reward": 1.0}, ["$.step", ">= 0"]),
        ({"episode_id": "e", "step": 2**64, "reward": 1.0}, ["$.step"]),
        ({"episode_id": "a/b", "step": 0, "reward": 1.0}, ["episode_id", "'a/b'"]),
        ({"decision_id": "d/x", "reward": 1.0}, ["decision_id", "'d/x'"]),
        ({"decision_id": "/0", "reward": 1.0}, ["decision_id"]),
        ({**PLACE, "reward": 1.0, "policy": "pong"}, ["policy", "cartpole", "'pong'"]),
        (
            {**PLACE, "reward": 1.0, "final_observation": [1, 2]},
            ["final_observation", "[4]", "[2]"],
        ),
        (7, ["object", "int"]),
    ],
)
def test_a_bad_outcome_is_named_and_spoils_no_other(
    without_model: Running, entry: Any, named: list[str], has_lane: bool
) -> None:
    client = without_model.client if has_lane else without_model.plain
    good = {**PLACE, "reward": 2.0}
    response = client.post("/v1/outcomes", json={"outcomes": [good, entry, good]})
    answer = response.json()
    assert response.status_code == 200
    assert [each["result"] for each in answer["results"]] == ["accepted", "invalid", "accepted"]
    assert answer["accepted"] == 2
    error = answer["results"][1]["error"]
    assert [name for name in named if name not in error] == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"transition_id": ""}, "transition_id"),
        ({"action": 2}, "action: expected below 2, found 2"),
        ({"action": -1}, "$.action"),
        ({"observation": [1, 2, 3]}, "observation: expected shape [4], found [3]"),
        ({"next_observation": [[1, 2, 3, 4]]}, "next_observation"),
        ({"observation": [1, 2, 3, 1e39]}, "observation[3]: expected a finite float32"),
        ({"propensity": 0.0}, "$.propensity"),
        ({"propensity": 1.5}, "$.propensity"),
        ({"episode_id": "e" * 129}, "episode_id"),
        ({"step": 2**63}, "$.step"),
    ],
)
def test_a_bad_transition_is_named_and_spoils_no_other(
    without_model: Running, changes: dict[str, Any], named: str
) -> None:
    body = {"transitions": [transition(**changes), transition()]}
    answer = without_model.client.post("/v1/transitions", json=body).json()
    assert [each["result"] for each in answer["results"]] == ["invalid", "accepted"]
    assert named in answer["results"][0]["error"]


@pytest.mark.parametrize("number", [0, 4097])
def test_none_and_too_many_are_refused_whole(without_model: Running, number: int) -> None:
    body = {"outcomes": [{**PLACE, "reward": 1.0}] * number}
    response = without_model.client.post("/v1/outcomes", json=body)
    assert response.status_code == 422
    assert f"found {number}" in response.json()["error"]


@pytest.mark.parametrize("name", ["reward", "propensity"])
def test_a_number_that_is_none_is_refused_in_message_pack(
    without_model: Running, name: str
) -> None:
    response = without_model.client.post(
        "/v1/transitions",
        content=msgspec.msgpack.encode({"transitions": [transition(**{name: math.nan})]}),
        headers={"content-type": "application/msgpack"},
    )
    assert json.loads(response.content)["results"][0]["result"] == "invalid"


def test_decisions_and_outcomes_come_out_of_the_log_as_transitions(tmp_path: Path) -> None:
    declare(tmp_path)
    with running(settings_for(tmp_path)) as service:
        for step in range(3):
            service.act(
                [[step, 0, 0, 0], [-step, 0, 0, 0]],
                episode_ids=["up", "down"],
                steps=[step, step],
                decision_id=f"d{step}",
            )
        outcomes = [
            {"decision_id": "d0/0", "reward": 10.0},
            {"decision_id": "d0/1", "reward": 20.0},
            {"episode_id": "up", "step": 1, "reward": 11.0, "terminated": True},
            {
                "episode_id": "down",
                "step": 1,
                "reward": 21.0,
                "truncated": True,
                "final_observation": [-9, 0, 0, 0],
            },
        ]
        assert service.client.post("/v1/outcomes", json={"outcomes": outcomes}).status_code == 200
        whole = {"transitions": [transition(), transition(reward=9.0)]}
        assert service.client.post("/v1/transitions", json=whole).status_code == 200
        folder = service.server.spool.folder
    join = Join()
    found = {
        (item.episode_id, item.step): (item.reward, item.observation[0], item.next_observation)
        for _, content in read_records(folder)
        for item in join.add(decode_record(content))
        if isinstance(item, Transition)
    }
    rewards = {place: values[0] for place, values in found.items()}
    assert rewards == {
        ("up", 0): 10.0,
        ("down", 0): 20.0,
        ("up", 1): 11.0,
        ("down", 1): 21.0,
        # The second one has the id of the first, and counts for nothing.
        ("transition:t", 0): 0.5,
    }
    following = found["down", 1][2]
    assert following is not None
    assert following[0] == -9
    assert join.counts["duplicate"] == 1
