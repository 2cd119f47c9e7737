"""An audit metric from `policy.toml` by way of the agents' reports to what it catches."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from cli.profile import profile_from_log
from contract.declaration import AuditMetric
from contract.join import JoinRules
from contract.live_profile import write_live_profile
from recorder.declarations import audits_in
from recorder.hacking import Caught
from recorder.manifests import Manifests
from recorder.observe import Observer
from recorder.reward_health_metrics import HealthMetrics, RewardHealth
from recorder.seal import Sealer
from recorder.sources import Spools
from tests import builders
from tests.service.running import Running, promote, running, settings_for

STEPS = 8
OBSERVATION = [0.0, 0.0, 0.1, 0.0]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Running]:
    metric = AuditMetric(name="poles still up at the end", of_episode="last")
    builders.write_policy(tmp_path / "policies", builders.declaration(audit=metric), version=3)
    promote(tmp_path, 3)
    with running(settings_for(tmp_path)) as started:
        yield started


def live(service: Running, name: str, reward: float, audit: float) -> None:
    """One episode; what counts of its audit is the last report."""
    steps = list(range(STEPS))
    service.act([OBSERVATION] * STEPS, episode_ids=[name] * STEPS, steps=steps)
    outcomes: list[dict[str, Any]] = [
        {"episode_id": name, "step": step, "reward": reward, "audit": 99.0} for step in steps
    ]
    outcomes[-1] |= {"terminated": True, "audit": audit}
    answer = service.client.post("/v1/outcomes", json={"outcomes": outcomes}).json()
    assert answer["accepted"] == STEPS, answer


def step_through(service: Running, name: str, reward: float, audit: float) -> None:
    """The same by the steps' own call."""
    for step in range(STEPS + 1):
        body: dict[str, Any] = {"step": step, "observation": OBSERVATION}
        if step:
            body["reward"] = reward
        if step == STEPS:
            del body["observation"]
            body |= {"terminated": True, "audit": audit}
        answer = service.client.post(f"/v1/episodes/{name}/steps", json=body)
        assert answer.status_code == 200, answer.text


def seal(data: Path) -> None:
    sources = Spools(data / "spool")
    Sealer(data / "shards", sources, 2**20, "test").seal(time.time())
    sources.close()


def test_a_return_that_its_audit_does_not_account_for_is_caught(
    service: Running, tmp_path: Path
) -> None:
    for number in range(24):
        # Returns of 8 to 32, and 0 to 3 poles that go with them.
        live(service, f"e{number}", number % 4 + 1.0, float(number % 4))
    seal(tmp_path)
    profile = profile_from_log(tmp_path, "cartpole", 3, since=0.0)
    assert profile.conduct is not None
    assert profile.conduct.returns_by_audit is not None
    write_live_profile(tmp_path / "policies" / "cartpole", 3, profile)

    live(service, "honest", 4.0, 3.0)
    step_through(service, "honest-by-steps", 4.0, 3.0)
    live(service, "hack", 4.0, 0.0)
    step_through(service, "hack-by-steps", 4.0, 0.0)
    seal(tmp_path)
    caught: list[Caught] = []
    health = RewardHealth(
        HealthMetrics(CollectorRegistry()),
        Manifests(tmp_path / "policies").find,
        caught.append,
        audits_in(tmp_path / "policies"),
    )
    Observer(tmp_path / "shards", JoinRules(), [health]).follow(time.time())
    assert {each.episode_id: each.checks for each in caught} == {
        "hack": ("unearned_audit",),
        "hack-by-steps": ("unearned_audit",),
    }


def test_an_audit_without_its_reward_is_refused(service: Running) -> None:
    body = {"step": 0, "observation": OBSERVATION, "audit": 1.0}
    answer = service.client.post("/v1/episodes/e/steps", json=body)
    assert answer.status_code == 422
    assert "audit: expected none" in answer.text


def test_an_audit_that_is_not_declared_is_refused(tmp_path: Path) -> None:
    builders.write_policy(tmp_path / "policies")
    promote(tmp_path)
    entry = {"episode_id": "e", "step": 0, "reward": 1.0, "audit": 1.0}
    with running(settings_for(tmp_path)) as plain:
        answer = plain.client.post("/v1/outcomes", json={"outcomes": [entry]}).json()
        body = {"step": 1, "observation": OBSERVATION, "reward": 1.0, "audit": 1.0}
        step = plain.client.post("/v1/episodes/e/steps", json=body)
    assert answer["accepted"] == 0
    assert "declares no audit metric" in answer["results"][0]["error"]
    assert step.status_code == 422
