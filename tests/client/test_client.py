"""The clients against a real server process, and against one that is gone."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import gymnasium
import numpy as np
import pytest

from contract.declaration import DeclarationError
from contract.heuristics import PythonHeuristic
from dqn_client import (
    AsyncClient,
    Client,
    ClientError,
    LocalPolicy,
    OutcomeReport,
    RetryPolicy,
    new_episode_id,
)
from tests import builders
from tests.service.process import Process, process
from tests.service.running import promote

LEFT, RIGHT = [0.0, 0.0, -0.1, 0.0], [0.0, 0.0, 0.1, 0.0]
NOBODY = "http://127.0.0.1:9"
"""Discard: nobody listens there."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    data = tmp_path_factory.mktemp("client")
    builders.write_policy(data / "policies")
    promote(data)
    with process(data) as started:
        started.wait_until_ready()
        yield started


@pytest.fixture
def server(service: Process) -> str:
    return str(service.client.base_url)


@pytest.fixture
def local() -> LocalPolicy:
    return LocalPolicy(builders.declaration())


def test_both_clients_get_the_model_s_actions(server: str) -> None:
    async def ask() -> Any:
        async with AsyncClient(server) as client:
            return await client.act(np.array([LEFT, RIGHT]), policy="cartpole")

    with Client(server) as client:
        answers = [client.act(np.array([LEFT, RIGHT])), asyncio.run(ask())]
    for answer in answers:
        assert answer.actions == [0, 1]
        assert answer.by(1).source == "model"
        assert answer.by(1).version == 1


def test_fields_of_the_call_are_handed_on(server: str) -> None:
    with Client(server) as client:
        (q_values,) = client.act([LEFT], include_q_values=True).q_values or []
    assert q_values == pytest.approx([0.32, -0.29])


def test_a_decision_may_have_a_name_of_the_caller_s_own(server: str) -> None:
    with Client(server) as client:
        assert client.act([LEFT], decision_id="mine").decision_id == "mine"
        # Without one it has a name as well, and no two the same.
        names = {client.act([LEFT]).decision_id for _ in range(2)}
    assert len(names) == 2


def test_an_answer_that_is_waited_for_briefly_says_so_to_the_server(server: str) -> None:
    with Client(server) as client:
        assert client.act([LEFT], within_seconds=30.0).actions == [0]
        with pytest.raises(ClientError, match="deadline_ms"):
            client.act([LEFT], deadline_ms=5000.0)


def test_a_refusal_says_what_the_server_said(server: str, local: LocalPolicy) -> None:
    with Client(server, retries=RetryPolicy(), local=local) as client:
        with pytest.raises(ClientError, match="shape") as caught:
            client.act([[1.0, 2.0]])
        assert caught.value.status == 422
        with pytest.raises(ClientError, match="pong"):
            client.act([LEFT], policy="pong")


def test_outcomes_and_transitions_are_accepted_and_counted(server: str, service: Process) -> None:
    def accepted() -> float:
        return service.metric("dqn_outcomes_total", result="accepted")

    before = accepted()
    with Client(server) as client:
        answer = client.act([LEFT])
        typed = OutcomeReport(reward=1.5, decision_id=f"{answer.decision_id}/0")
        loose = {"reward": 2.0, "episode_id": new_episode_id(), "step": 3}
        assert client.report([typed, loose]) == 2
        transition = {
            "transition_id": "t1",
            "observation": LEFT,
            "action": 1,
            "reward": 0.5,
            "next_observation": RIGHT,
        }
        assert client.record([transition]) == 1
    assert accepted() >= before + 2


def test_policies_are_read_and_changed(server: str) -> None:
    with Client(server) as client:
        assert client.change("cartpole", "pin", {"why": "a test"})["entry"]["why"] == "a test"
        assert client.act([LEFT]).by(0).reason == "pinned"
        client.change("cartpole", "unpin", {"why": "a test"})
        assert client.get("/v1/policies/cartpole")["policy"] == "cartpole"


def test_any_environment_is_played_in_five_lines(server: str) -> None:
    environment = gymnasium.make("CartPole-v1")
    with Client(server) as client:
        observation, _ = environment.reset(seed=3)
        episode = client.episode("cartpole")
        while not episode.is_over:
            action = episode.act(observation)
            observation, reward, terminated, truncated, _ = environment.step(action)
            episode.reward(float(reward), terminated, truncated, observation)
    assert episode.episode_return == episode.step > 100
    assert episode.durable_step == episode.step
    assert episode.answered_by is not None
    assert episode.answered_by.source == "model"
    environment.close()


def test_any_environment_is_played_by_asyncio_alike(server: str) -> None:
    async def play() -> float:
        environment = gymnasium.make("CartPole-v1")
        async with AsyncClient(server) as client:
            observation, _ = environment.reset(seed=3)
            episode = client.episode("cartpole", within_seconds=10.0)
            while not episode.is_over:
                action = await episode.act(observation)
                observation, reward, terminated, truncated, _ = environment.step(action)
                await episode.reward(float(reward), terminated, truncated, observation)
        return episode.episode_return

    assert asyncio.run(play()) > 100


@pytest.mark.parametrize(
    "misuse",
    [
        lambda episode: episode.reward(1.0),
        lambda episode: (episode.act(LEFT), episode.act(LEFT)),
        lambda episode: (episode.act(LEFT), episode.reward(1.0, True), episode.act(LEFT)),
        lambda episode: (episode.act(LEFT), episode.reward(1.0), episode.reward(1.0)),
    ],
)
def test_an_episode_is_one_reward_an_action_until_its_end(
    server: str, misuse: Callable[[Any], Any]
) -> None:
    with Client(server) as client, pytest.raises(ValueError, match=r"reward|over"):
        misuse(client.episode("cartpole"))


def test_a_server_that_is_gone_is_an_error_or_the_heuristic_s_turn(local: LocalPolicy) -> None:
    with Client(NOBODY) as client, pytest.raises(ClientError) as caught:
        client.act([LEFT])
    assert caught.value.is_transient
    assert caught.value.status is None

    async def ask() -> Any:
        async with AsyncClient(NOBODY, local=local) as client:
            return await client.act([LEFT, RIGHT])

    with Client(NOBODY, local=local) as client:
        answers = [client.act([LEFT, RIGHT]), asyncio.run(ask())]
    for answer in answers:
        # The heuristic always says 1; the model says 0 to the first.
        assert answer.actions == [1, 1]
        assert answer.by(0).source == "heuristic"
        assert answer.by(0).reason == "unreachable"


def test_the_local_heuristic_obeys_the_mask(local: LocalPolicy) -> None:
    with Client(NOBODY, local=local) as client:
        answer = client.act([LEFT, LEFT], action_masks=[[True, False], [True, True]])
    assert answer.actions == [0, 1]


def test_an_episode_outlives_its_server(tmp_path: Path, local: LocalPolicy) -> None:
    builders.write_policy(tmp_path / "policies")
    promote(tmp_path)
    with process(tmp_path) as started:
        started.wait_until_ready()
        with Client(str(started.client.base_url), local=local) as client:
            episode = client.episode("cartpole")
            assert episode.act(LEFT) == 0
            episode.reward(1.0)
            started.kill_all()
            # The heuristic's action, where the model's is 0.
            assert episode.act(LEFT) == 1
            episode.reward(1.0, terminated=True)
    assert episode.answered_by is not None
    assert episode.answered_by.reason == "unreachable"
    # What the last report said is on no disk, and the episode says so.
    assert episode.durable_step < episode.step


def test_a_heuristic_in_python_runs_only_where_it_is_allowed(tmp_path: Path) -> None:
    function = "tests.service.heuristics:second"
    declared = builders.declaration(heuristic=PythonHeuristic(function=function))
    with pytest.raises(ValueError, match="not allowed"):
        LocalPolicy(declared)
    LocalPolicy(declared, allowed_heuristics=(function,))
    with pytest.raises(DeclarationError):
        LocalPolicy.read(tmp_path)


def test_episode_ids_say_when_the_episode_began() -> None:
    early, late = new_episode_id(1_700_000_000.001), new_episode_id(1_700_000_000.002)
    assert UUID(early).version == 7
    assert UUID(early).int >> 80 == 1_700_000_000_001
    assert early < late
    assert new_episode_id(1.0) != new_episode_id(1.0)
