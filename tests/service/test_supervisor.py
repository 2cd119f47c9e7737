import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from contract.join import Join
from contract.records import decode_record
from contract.segments import read_records
from contract.transitions import Transition
from tests.service.conftest import declare
from tests.service.process import Process, is_running, process
from tests.service.running import Connection, actions_call, post, wait_until

ACT = {"observations": [[0.0, 0.0, 0.1, 0.0]]}


def act(service: Process, times: int) -> None:
    for _ in range(times):
        # A connection of its own each time, so that every worker gets some.
        response = httpx.post(f"{service.client.base_url}/v1/actions", json=ACT)
        assert response.status_code == 200, response.text


def test_workers_share_a_port_and_one_true_page_and_a_killed_one_is_replaced(
    tmp_path: Path,
) -> None:
    declare(tmp_path)
    decisions = {
        "policy": "cartpole", "variant": "stable", "source": "heuristic", "reason": "no_model",
    }  # fmt: skip
    with process(tmp_path, "--workers=2") as service:
        service.wait_until_ready()
        act(service, 40)
        for _ in range(5):
            assert service.metric("dqn_decisions_total", **decisions) == 40
        # A histogram is put on the page twice a second.
        wait_until(
            lambda: service.metric("dqn_decision_seconds_count", policy="cartpole") == 40,
            "the quiet worker's numbers",
        )
        workers = service.workers()
        assert len(workers) == 2
        assert len(list((tmp_path / "spool").iterdir())) == 2

        os.kill(workers[0], signal.SIGKILL)
        wait_until(
            lambda: len(service.workers()) == 2 and workers[0] not in service.workers(),
            "a new worker",
        )
        service.wait_until_ready()
        assert workers[1] in service.workers()
        wait_until(lambda: service.metric("dqn_worker_restarts_total") == 1, "it is counted")
        # The dead worker's counts stay, and its folder finds a new owner.
        assert service.metric("dqn_decisions_total", **decisions) == 40
        wait_until(lambda: len(list((tmp_path / "spool").iterdir())) == 2, "two producers")

        second = subprocess.run(
            [sys.executable, "-m", "service", f"--data={tmp_path}", "--port=0"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert second.returncode == 2
        assert f"{tmp_path} is served by another process" in second.stderr
        act(service, 1)
        workers = service.workers()
        assert service.stop() == 0
        assert not any(map(is_running, workers))
        assert "worker_killed" not in service.log()
        assert "Traceback" not in service.log()


def test_no_worker_outlives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    declare(tmp_path)
    with process(tmp_path) as service:
        service.wait_until_ready()
        (worker,) = service.workers()
        service.kill_supervisor()
        wait_until(lambda: not is_running(worker), "the worker ends")
        with process(tmp_path) as again:
            again.wait_until_ready()


def test_what_is_in_flight_is_answered_before_a_stop(tmp_path: Path) -> None:
    declare(tmp_path)
    with process(tmp_path) as service:
        service.wait_until_ready()
        port = urlsplit(str(service.client.base_url)).port
        assert port is not None
        head, body = actions_call("in flight")[:-5], actions_call("in flight")[-5:]
        with Connection(port) as begun, Connection(port) as idle:
            idle.send(actions_call("before"))
            assert idle.answer()[0] == 200
            outcome = {"outcomes": [{"episode_id": "e", "step": 0, "reward": 7.0}]}
            begun.send(post("/v1/outcomes", outcome) * 50 + head)
            assert begun.answer()[0] == 200
            os.kill(service.pid, signal.SIGTERM)
            assert idle.is_closed()
            for _ in range(49):
                assert begun.answer()[0] == 200
            begun.send(body)
            # It came after the signal, and is not cut off.
            assert begun.answer()[0] == 200
            assert begun.is_closed()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        assert service.stop() == 0


def test_every_acknowledged_transition_outlives_a_kill_and_none_is_doubled(
    tmp_path: Path,
) -> None:
    declare(tmp_path)
    with process(tmp_path) as service:
        service.wait_until_ready()
        agents = [Agent(number, str(service.client.base_url)) for number in range(4)]
        wait_until(lambda: all(agent.acknowledged for agent in agents), "load")
        wait_until(lambda: sum(len(agent.acknowledged) for agent in agents) > 200, "more load")
        service.kill_all()
        for agent in agents:
            agent.join()
    assert all(agent.refused for agent in agents)
    with process(tmp_path) as service:
        service.wait_until_ready()
        for agent in agents:
            # Who heard nothing tries again; so does who forgot that it had heard.
            agent.report(str(service.client.base_url), [*agent.refused, agent.acknowledged[-1]])
        assert service.stop() == 0
    join = Join()
    found = [
        item.episode_id.removeprefix("transition:")
        for folder in (tmp_path / "spool").iterdir()
        for _, content in read_records(folder)
        for item in join.add(decode_record(content))
        if isinstance(item, Transition)
    ]
    assert len(found) == len(set(found))
    wanted = {name for agent in agents for name in agent.acknowledged}
    assert wanted <= set(found)
    assert len(wanted) > 200
    assert len(list((tmp_path / "spool").iterdir())) == 1


class Agent:
    """Reports transitions, and asks for actions, until nobody answers."""

    def __init__(self, number: int, url: str) -> None:
        self._number = number
        self.acknowledged: list[str] = []
        self.refused: list[str] = []
        self._thread = threading.Thread(target=self._run, args=(url,))
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def report(self, url: str, names: list[str]) -> None:
        with httpx.Client(base_url=url, timeout=60.0) as client:
            self._report(client, names)

    def _run(self, url: str) -> None:
        with httpx.Client(base_url=url, timeout=60.0) as client:
            for step in range(1_000_000):
                names = [f"{self._number}-{step}-{index}" for index in range(3)]
                try:
                    client.post("/v1/actions", json=ACT)
                    self._report(client, names)
                except httpx.TransportError:
                    self.refused += names
                    return

    def _report(self, client: httpx.Client, names: list[str]) -> None:
        transitions = [
            {
                "transition_id": name,
                "observation": [1, 2, 3, 4],
                "action": 1,
                "reward": 0.5,
                "next_observation": [5, 6, 7, 8],
            }
            for name in names
        ]
        response = client.post("/v1/transitions", json={"transitions": transitions})
        assert response.json()["accepted"] == len(names)
        self.acknowledged += names
