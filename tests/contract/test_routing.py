from typing import Any

import pytest

from contract.records import DecisionBatch, decode_record, encode_record, row_names
from contract.routing import route, route_content
from contract.streams import partition_of
from tests import builders


def test_the_records_of_an_episode_share_a_stream() -> None:
    batch = builders.decision_batch(
        [[float(row)] * 4 for row in range(6)],
        decision_ids=["d"],
        episode_ids=["red", "blue", None, "red", "blue", None],
        steps=[0, 0, None, 1, 1, None],
        actions=[0, 1, 0, 1, 0, 1],
    )
    rows = {}
    for policy, partition, content in route(batch):
        part = decode_record(content)
        assert isinstance(part, DecisionBatch)
        for name, episode_id, observation in zip(
            row_names(part), part.episode_ids, part.observations.array(), strict=True
        ):
            assert (policy, partition) == (builders.POLICY, partition_of(episode_id or name))
            rows[name] = observation[0]
    assert rows == {f"d/{row}": float(row) for row in range(6)}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"episode_id": "red", "step": 4}, "red"),
        ({"decision_id": "d", "row": 5}, "d/5"),
    ],
)
def test_an_outcome_goes_where_its_decision_went(changes: dict[str, Any], name: str) -> None:
    ((policy, partition, _),) = route(builders.outcome(**changes))
    assert (policy, partition) == (builders.POLICY, partition_of(name))


def test_a_transition_goes_by_its_episode_else_by_its_own_name() -> None:
    for changes, name in (({}, "episode-1"), ({"episode_id": None}, "transition-1")):
        ((policy, partition, _),) = route(builders.transition_record(**changes))
        assert (policy, partition) == (builders.POLICY, partition_of(name))


def test_a_record_without_a_policy_goes_to_the_streams_of_none() -> None:
    ((policy, partition, _),) = route(builders.outcome(policy=None, decision_id="d"))
    assert (policy, partition) == ("", partition_of("d/0"))


def test_what_does_not_decode_goes_on_as_it_is() -> None:
    ((policy, partition, content),) = route_content("worker", b"\xc1")
    assert (policy, partition, content) == ("", partition_of("worker"), b"\xc1")
    outcome = builders.outcome(episode_id="red", step=1)
    assert list(route_content("worker", encode_record(outcome))) == list(route(outcome))
