"""`/v1/episodes/{id}/steps`, with a policy whose observation is a stack of three frames."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.decided import decided_rows
from contract.declaration import ActionSpec, ObservationSpec
from contract.heuristics import ConstantHeuristic
from contract.join import Join
from contract.records import DecisionBatch, decode_record
from contract.segments import read_records
from contract.transitions import Episode, Transition
from dqn_client import new_episode_id
from tests import builders
from tests.service.running import Running, promote, running, settings_for, wait_until

# Frames [2]; action 1 where the sum of the stack's newest first elements beats its oldest's.
DEPTH = 3
WEIGHTS = ((100.0, 0.0, 10.0, 0.0, 1.0, 0.0), (0.0,) * 6, (-1e6,) + (0.0,) * 5)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("steps")


@pytest.fixture(scope="module")
def stacked(data: Path) -> Iterator[Running]:
    declared = builders.declaration(
        observation=ObservationSpec(shape=(DEPTH, 2), frame_stack=DEPTH),
        actions=ActionSpec(count=3, masked=True),
        heuristic=ConstantHeuristic(action=2),
    )
    builders.write_policy(
        data / "policies",
        declared,
        weights=WEIGHTS,
        bias=(0.0, 0.5, 0.0),
        observation=declared.observation,
        actions=declared.actions,
        q_bound=None,
    )
    promote(data)
    with running(settings_for(data, episodes_max_bytes=1024 * 1024)) as started:
        yield started


def take(service: Running, episode_id: str, **body: Any) -> tuple[int, dict[str, Any]]:
    response = service.client.post(f"/v1/episodes/{episode_id}/steps", json=body)
    return response.status_code, response.json()


def q_of_first_action(service: Running, episode_id: str, step: int, value: float) -> float:
    """100 x oldest + 10 x middle + newest: the digits are the stack."""
    _, answer = take(
        service, episode_id, step=step, observation=[value, 0.0], include_q_values=True
    )
    return float(answer["q_values"][0])


def test_the_stack_is_kept_by_the_server(stacked: Running) -> None:
    episode = new_episode_id()
    digits = [q_of_first_action(stacked, episode, step, 1.0 + step) for step in range(4)]
    assert digits == [111.0, 112.0, 123.0, 234.0]


def test_a_step_sent_again_is_told_the_same_and_shifts_no_stack(stacked: Running) -> None:
    episode = new_episode_id()
    take(stacked, episode, step=0, observation=[1.0, 0.0])
    first = take(stacked, episode, step=1, reward=1.0, observation=[2.0, 0.0])
    # Another observation under the same step: it is a retry all the same.
    again = take(stacked, episode, step=1, reward=1.0, observation=[9.0, 0.0])
    assert again[1] | {"durable_step": 0} == first[1] | {"durable_step": 0}
    assert q_of_first_action(stacked, episode, 2, 3.0) == 123.0


def test_a_step_that_was_passed_is_refused(stacked: Running) -> None:
    episode = new_episode_id()
    for step in range(3):
        take(stacked, episode, step=step, observation=[1.0, 0.0])
    status, answer = take(stacked, episode, step=1, observation=[1.0, 0.0])
    assert (status, answer["code"]) == (409, "conflict")
    assert answer["error"] == "step: expected 2 or later, found 1"


def test_without_history_the_heuristic_answers_until_the_stack_is_whole(stacked: Running) -> None:
    episode = new_episode_id()
    reasons = []
    for step in range(7, 11):
        _, answer = take(stacked, episode, step=step, observation=[1.0, 0.0])
        reasons.append((answer["answered_by"]["reason"], answer["action"] == 2))
    assert reasons == [("no_history", True), ("no_history", True), (None, False), (None, False)]


def test_a_missing_step_is_missing_history(stacked: Running) -> None:
    episode = new_episode_id()
    take(stacked, episode, step=0, observation=[1.0, 0.0])
    _, answer = take(stacked, episode, step=2, observation=[1.0, 0.0])
    assert answer["answered_by"]["reason"] == "no_history"


def test_a_mask_is_obeyed(stacked: Running) -> None:
    episode = new_episode_id()
    _, answer = take(
        stacked, episode, step=0, observation=[1.0, 0.0], action_mask=[False, True, False]
    )
    assert answer["action"] == 1


def test_an_episode_comes_out_of_the_log_whole(stacked: Running, data: Path) -> None:
    episode = new_episode_id()
    take(stacked, episode, step=0, observation=[1.0, 0.0])
    take(stacked, episode, step=1, reward=0.5, observation=[2.0, 0.0])
    status, receipt = take(
        stacked,
        episode,
        step=2,
        reward=2.0,
        truncated=True,
        final_observation=[3.0, 0.0],
    )
    assert status == 200
    assert receipt["durable_step"] == 2
    assert "action" not in receipt

    def joined() -> list[Transition | Episode]:
        join = Join()
        return [
            each
            for folder in (data / "spool").iterdir()
            for _, content in read_records(folder)
            for each in join.add(decode_record(content))
            if each.episode_id == episode
        ]

    wait_until(lambda: len(joined()) == 3, "the episode is in the log")
    first, second, whole = joined()
    assert isinstance(first, Transition)
    assert isinstance(second, Transition)
    assert isinstance(whole, Episode)
    assert (first.reward, second.reward) == (0.5, 2.0)
    assert first.next_observation is not None
    np.testing.assert_array_equal(first.next_observation, second.observation)
    assert second.next_observation is not None
    assert second.next_observation[:, 0].tolist() == [1.0, 2.0, 3.0]
    assert (whole.ending, whole.episode_return, whole.is_complete) == ("truncated", 2.5, True)


def test_of_each_step_but_the_first_only_the_newest_frame_is_logged(
    stacked: Running, data: Path
) -> None:
    episode, met_later = new_episode_id(), new_episode_id()
    for step in range(3):
        take(stacked, episode, step=step, observation=[1.0 + step, 0.0])
        take(stacked, met_later, step=7 + step, observation=[7.0 + step, 0.0])

    def logged() -> dict[tuple[str | None, int | None], list[object]]:
        records = [
            decode_record(content)
            for folder in (data / "spool").iterdir()
            for _, content in read_records(folder)
        ]
        return {
            (episode_id, step): [decided.frame_stack, decided.observation.tolist()]
            for record in records
            if isinstance(record, DecisionBatch)
            for episode_id, step, decided in decided_rows(record)
        }

    last = {(episode, 2), (met_later, 9)}
    wait_until(lambda: last <= logged().keys(), "the steps are in the log")
    found = logged()
    assert found[episode, 0] == [1, [[1.0, 0.0]] * 3]
    assert [found[episode, step] for step in (1, 2)] == [[3, [2.0, 0.0]], [3, [3.0, 0.0]]]
    # What stood in for frames that nobody has seen is not logged as seen.
    later = [found[met_later, step] for step in (7, 8, 9)]
    assert later == [[3, [7.0, 0.0]], [3, [8.0, 0.0]], [3, [9.0, 0.0]]]


def test_the_last_report_sent_again_counts_once(stacked: Running) -> None:
    episode = new_episode_id()
    take(stacked, episode, step=0, observation=[1.0, 0.0])
    before = stacked.metric("dqn_outcomes_total", result="accepted")
    last = {"step": 1, "reward": 1.0, "terminated": True}
    assert take(stacked, episode, **last) == take(stacked, episode, **last)
    assert stacked.metric("dqn_outcomes_total", result="accepted") == before + 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"step": 1}, "observation: expected one, unless the episode terminated"),
        ({"step": 1, "terminated": True}, "reward: expected that of the last step"),
        (
            {"step": 1, "reward": 1.0, "terminated": True, "observation": [1.0, 0.0]},
            "observation: expected none after the end",
        ),
        ({"step": 0, "reward": 1.0, "observation": [1.0, 0.0]}, "reward: expected none at step 0"),
        ({"step": 0, "observation": [[1.0, 0.0]] * 3}, "observation: "),
        ({"step": -1, "observation": [1.0, 0.0]}, "Expected `int` >= 0"),
        (
            {"step": 0, "observation": [1.0, 0.0], "action_mask": [False] * 3},
            "action_masks[0]: leaves no legal action",
        ),
    ],
)
def test_a_senseless_step_is_refused_and_changes_nothing(
    stacked: Running, body: dict[str, Any], message: str
) -> None:
    episode = new_episode_id()
    status, answer = take(stacked, episode, **body)
    assert status == 422
    assert message in answer["error"]
    assert q_of_first_action(stacked, episode, 0, 1.0) == 111.0


def test_memory_is_bounded_and_what_is_dropped_is_counted(stacked: Running) -> None:
    before = stacked.metric("dqn_episodes_evicted_total")
    first = new_episode_id()
    take(stacked, first, step=0, observation=[1.0, 0.0])
    # A MiB holds about a thousand episodes of a kilobyte.
    for _ in range(1100):
        take(stacked, new_episode_id(), step=0, observation=[1.0, 0.0])
    assert stacked.metric("dqn_episodes_evicted_total") > before
    _, answer = take(stacked, first, step=1, observation=[1.0, 0.0])
    assert answer["answered_by"]["reason"] == "no_history"
