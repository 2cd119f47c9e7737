"""What must hold where a request may reach any of several processes."""

import asyncio
import http.client
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest

from contract.declaration import ActionSpec, ObservationSpec
from contract.heuristics import ConstantHeuristic
from dqn_client import new_episode_id
from tests import builders
from tests.service.conftest import declare
from tests.service.process import Process, process
from tests.service.running import promote, wait_until

EPISODES = 12
STEPS = 5


def write_stacked(data: Path) -> None:
    """100 x oldest + 10 x middle + newest frame: the digits of the Q-value are the stack."""
    declared = builders.declaration(
        observation=ObservationSpec(shape=(3, 1), frame_stack=3),
        actions=ActionSpec(count=2),
        heuristic=ConstantHeuristic(action=1),
    )
    builders.write_policy(
        data / "policies",
        declared,
        weights=((100.0, 10.0, 1.0), (0.0, 0.0, 0.0)),
        bias=(0.0, 0.5),
        observation=declared.observation,
        actions=declared.actions,
        q_bound=None,
    )
    promote(data)


def digits(service: Process, episode_id: str, step: int) -> float | str:
    """The stack that a step was decided on, or why it was not; over a connection of its own."""
    response = httpx.post(
        f"{service.client.base_url}/v1/episodes/{episode_id}/steps",
        json={"step": step, "observation": [1.0 + step], "include_q_values": True},
    )
    answer = response.json()
    assert response.status_code == 200, answer
    reason = answer["answered_by"]["reason"]
    return str(reason) if reason else float(answer["q_values"][0])


def test_an_episode_keeps_its_stack_whichever_worker_its_steps_reach(tmp_path: Path) -> None:
    write_stacked(tmp_path)
    with process(tmp_path, "--workers=3") as service:
        service.wait_until_ready()
        episodes = [new_episode_id() for _ in range(EPISODES)]
        # The workers find each other within a moment of their start.
        wait_until(lambda: digits(service, new_episode_id(), 0) == 111.0, "the model answers")
        wait_until(lambda: _all_whole(service), "the workers are connected")
        found = [[digits(service, each, step) for each in episodes] for step in range(STEPS)]
        assert found == [[value] * EPISODES for value in (111.0, 112.0, 123.0, 234.0, 345.0)]

        os.kill(service.workers()[0], signal.SIGKILL)
        wait_until(lambda: len(service.workers()) == 3, "a new worker")
        after = {digits(service, each, STEPS) for each in episodes}
        # The lost worker's episodes say that they lost their history; the others go on.
        assert after <= {456.0, "no_history", "no_model"}
        assert 456.0 in after


def _all_whole(service: Process) -> bool:
    episodes = [new_episode_id() for _ in range(EPISODES)]
    return all(
        [digits(service, each, step) for step in range(3)] == [111.0, 112.0, 123.0]
        for each in episodes
    )


class Balancer:
    """A plain TCP balancer: takes turns, and goes on where nobody takes the connection."""

    def __init__(self, ports: list[int]) -> None:
        self._num_ports = len(ports)
        self._turns = cycle(ports)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(self._num_ports):
            try:
                behind = await asyncio.open_connection("127.0.0.1", next(self._turns))
                break
            except ConnectionRefusedError:
                continue
        else:
            writer.close()
            return
        await asyncio.gather(_pump(reader, behind[1]), _pump(behind[0], writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while content := await reader.read(65536):
            writer.write(content)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@contextmanager
def balancer(ports: list[int]) -> Iterator[int]:
    """Balance until the block ends; gives the port."""
    loop = asyncio.new_event_loop()
    starting = asyncio.start_server(Balancer(ports).carry, "127.0.0.1", 0)
    server = loop.run_until_complete(starting)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def stop() -> None:
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Transports that were closed are gone after the next turns of the loop.
        await asyncio.sleep(0.05)

    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.slow
def test_a_rolling_restart_of_two_replicas_loses_no_request(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        declare(folder)
    lost: list[str] = []
    answered = [0]
    stop = threading.Event()
    body = msgspec.json.encode({"observations": [[0.0, 0.0, 0.1, 0.0]]})

    def ask(port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        while not stop.is_set():
            try:
                connection.request("POST", "/v1/actions", body)
                response = connection.getresponse()
                response.read()
                assert response.status == 200, response.status
                answered[0] += 1
            except (OSError, http.client.HTTPException, AssertionError) as error:
                lost.append(repr(error))
                connection.close()
        connection.close()

    notice = "--drain-notice-seconds=1"
    with process(folders[0], notice) as first, process(folders[1], notice) as second:
        replicas = [first, second]
        ports = [urlsplit(str(each.client.base_url)).port or 0 for each in replicas]
        for each in replicas:
            each.wait_until_ready()
        with balancer(ports) as port:
            agents = [threading.Thread(target=ask, args=(port,)) for _ in range(8)]
            for agent in agents:
                agent.start()
            wait_until(lambda: answered[0] > 500, "traffic")
            assert first.stop() == 0
            with process(folders[0], notice, f"--port={ports[0]}") as again:
                again.wait_until_ready()
                answered[0] = 0
                wait_until(lambda: answered[0] > 500, "traffic to both")
                assert second.stop() == 0
                answered[0] = 0
                wait_until(lambda: answered[0] > 500, "traffic to the restarted one alone")
                stop.set()
                for agent in agents:
                    agent.join()
    assert lost == []
