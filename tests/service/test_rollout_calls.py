import time
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from contract.fold import fold
from contract.ledger import LEDGER_FILE, Entry, FileLedger, append_latest
from contract.replicas import FileReplicas, Replica
from tests import builders
from tests.service.running import Running, promote, running, settings_for, wait_until


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rollouts")


class Trials:
    """A policy of a test's own whose version 1 is stable, and the calls on it."""

    def __init__(self, service: Running, data: Path, name: str) -> None:
        self.service, self.data, self.name = service, data, name
        for version in (1, 2, 3):
            profile = builders.profile() if version == 1 else None
            builders.write_policy(
                data / "policies", policy=name, version=version, profile=profile, floor=9.5
            )
        promote(data, 1, name)
        wait_until(lambda: self.get("").status_code == 200, "it is declared")
        wait_until(lambda: self.get("").json()["stable"] == 1, "version 1 serves")

    def get(self, path: str) -> Any:
        return self.service.client.get(f"/v1/policies/{self.name}{path}")

    def call(self, verb: str, **fields: Any) -> Any:
        body = {"why": "a test"} | fields
        return self.service.client.post(f"/v1/policies/{self.name}/{verb}", json=body)

    def says(self, action: str, why: str, **details: Any) -> None:
        """What a judge, or another worker, writes."""
        trial = self.get("/rollout").json()["rollout"]
        details = {"rollout_id": trial["rollout_id"]} | details
        entry = Entry(
            action=action, policy=self.name, version=2, who="judge", why=why, details=details
        )
        append_latest(FileLedger(self.data / "policies" / LEDGER_FILE), entry)


@pytest.fixture(scope="module")
def service(data: Path) -> Any:
    with running(settings_for(data)) as started:
        yield started


@pytest.fixture
def trials(service: Running, data: Path, request: pytest.FixtureRequest) -> Trials:
    return Trials(service, data, f"p{crc32(request.node.name.encode())}")


def test_a_canary_begins_at_the_plan_s_first_share_with_the_return_range_of_the_bundles(
    trials: Trials,
) -> None:
    done = trials.call("canary", version=2)
    assert done.status_code == 200
    plan = done.json()["entry"]["details"]["plan"]
    profile = builders.profile().episode_return
    assert plan["return_range"] == [min(9.5, profile.minimum), profile.maximum]
    told = trials.get("/rollout").json()
    assert (told["stable"], told["canary"]) == (1, 2)
    assert (told["rollout"]["share"], told["rollout"]["verdict"]) == (0.01, "undecided")
    assert len(done.json()["replicas"]["acknowledged"]) == 1
    assert done.json()["replicas"]["not_acknowledged"] == []


def test_a_canary_is_refused_where_it_cannot_be_one(trials: Trials) -> None:
    for fields, said in (
        ({"version": 1}, "another version"),
        ({"version": 9}, "may not serve"),
        ({"version": 2, "expected_stable": 5}, "expected_stable"),
    ):
        refused = trials.call("canary", **fields)
        assert refused.status_code == 409
        assert said in refused.json()["error"]
    trials.call("freeze")
    assert "frozen" in trials.call("canary", version=2).json()["error"]
    trials.call("unfreeze")
    assert trials.call("canary", version=2).status_code == 200
    assert "`abort` it first" in trials.call("canary", version=3).json()["error"]
    assert "on trial" in trials.call("promote", version=3).json()["error"]


def test_a_dry_run_says_what_a_canary_would_take_and_changes_nothing(trials: Trials) -> None:
    told = trials.call("canary", version=2, dry_run=True, episodes_per_hour=1000).json()
    assert told["stages"][0]["episodes"] == 3000
    assert told["stages"][0]["seconds"] == 3000 / 1000 * 3600
    assert told["sentences"][0] == (
        "a share of 0.01: 30 canary episodes, of about 3,000 in all: about 3 h, at least 60 min"
    )
    assert trials.get("/rollout").json()["canary"] is None


def test_a_plan_in_toml_holds_for_the_canaries_to_come(trials: Trials) -> None:
    path = f"/v1/policies/{trials.name}/rollout"
    plan = 'mode = "auto"\n[[stages]]\nshare = 0.3\n'
    done = trials.service.client.put(path, content=plan, params={"why": "quicker"})
    assert done.status_code == 200
    foul = trials.service.client.put(path, content="colour = 1", params={"why": "x"})
    assert (foul.status_code, "colour" in foul.json()["error"]) == (422, True)
    assert trials.service.client.put(path, content=plan).status_code == 422
    trials.call("canary", version=2)
    told = trials.get("/rollout").json()["rollout"]
    assert (told["share"], told["mode"]) == (0.3, "auto")


def test_the_verdict_and_the_gates_follow_the_judge(trials: Trials) -> None:
    gates = ("gates/rollout", "gates/promotion")
    assert trials.get("/rollout/verdict").json()["verdict"] == "undecided"
    trials.call("canary", version=2)
    # Flagger posts a body of its own, which is of no matter here.
    flagger = {"name": "x", "namespace": "y", "phase": "Progressing", "metadata": {}}
    client = trials.service.client

    def statuses() -> list[int]:
        base = f"/v1/policies/{trials.name}"
        return [client.post(f"{base}/{gate}", json=flagger).status_code for gate in gates]

    assert statuses() == [200, 409]
    trials.says("evidence", "it is good", until=0, verdict="promote")
    assert trials.get("/rollout/verdict").json()["verdict"] == "promote"
    assert statuses() == [200, 200]
    trials.says("abort", "it is bad", outcome="rolled_back")
    told = trials.get("/rollout/verdict")
    assert (told.status_code, told.json()["verdict"]) == (200, "roll_back")
    assert told.json()["sentence"] == "it is bad"
    assert statuses() == [409, 409]


def test_a_trial_is_paused_resumed_and_aborted(trials: Trials) -> None:
    assert trials.call("pause").status_code == 409
    trials.call("canary", version=2)
    assert trials.call("pause").status_code == 200
    assert trials.get("/rollout").json()["rollout"]["paused"]
    assert trials.call("resume").status_code == 200
    assert not trials.get("/rollout").json()["rollout"]["paused"]
    assert trials.call("abort").status_code == 200
    told = trials.get("/rollout").json()
    assert (told["canary"], told["rollout"]["outcome"]) == (None, "aborted")


def test_a_shadow_is_set_and_ended(trials: Trials) -> None:
    assert trials.call("shadow", version=3, share=0.2).status_code == 200
    told = trials.get("/rollout").json()
    assert (told["shadow"], told["shadow_share"]) == (3, 0.2)
    trials.call("shadow", version=3, share=0)
    assert trials.get("/rollout").json()["shadow"] is None


def test_an_operator_s_promotion_of_the_canary_ends_the_trial(trials: Trials) -> None:
    trials.call("canary", version=2, plan={"holdback_share": 0.02})
    assert trials.call("promote", version=2).status_code == 200
    told = trials.get("/rollout").json()
    assert (told["stable"], told["previous"]) == (2, 1)
    # What is left on the previous version is told of as a trial of its own.
    trial = told["rollout"]
    assert (trial["kind"], trial["version"], trial["share"]) == ("holdback", 1, 0.02)


def test_the_past_can_be_asked_for(trials: Trials) -> None:
    first = trials.get("/ledger").json()["entries"][0]["at"]
    trials.call("promote", version=2)
    assert trials.get("/rollout").json()["stable"] == 2
    told = trials.service.client.get(
        f"/v1/policies/{trials.name}/rollout", params={"at": first}
    ).json()
    assert told["stable"] == 1
    assert trials.get("/rollout?at=yesterday").status_code == 422


def test_a_version_waits_for_every_replica_that_reports(trials: Trials) -> None:
    replicas = FileReplicas(trials.data / "run" / "replicas")

    def tell(versions: list[int], **faults: str) -> None:
        replicas.tell(
            Replica(
                name="another",
                at=time.time(),
                position=10**6,
                warm={trials.name: versions},
                faults={f"{trials.name}/{name}": why for name, why in faults.items()},
            )
        )

    tell([1], **{"2": "the disk is full"})
    refused = trials.call("canary", version=2)
    assert refused.status_code == 409
    assert "another: the disk is full" in refused.json()["error"]
    assert trials.get("/rollout").json()["registered"] == 2
    tell([1, 2])
    done = trials.call("canary", version=2)
    assert done.status_code == 200
    assert "another" in done.json()["replicas"]["acknowledged"]
    replicas.forget("another")


def test_what_the_service_says_is_what_the_ledger_folds_to(trials: Trials) -> None:
    trials.call("canary", version=2)
    state = fold(FileLedger(trials.data / "policies" / LEDGER_FILE).read_after(0), {})[trials.name]
    assert (state.stable, state.canary) == (1, 2)


def test_a_cycle_is_asked_for_in_the_ledger_unless_the_policy_is_frozen(trials: Trials) -> None:
    before = trials.get("/rollout").json()
    assert trials.call("retrain", why="rewards fell").status_code == 200
    asked = trials.get("/ledger").json()["entries"][-1]
    assert (asked["action"], asked["why"]) == ("retrain", "rewards fell")
    after = trials.get("/rollout").json()
    assert (after["stable"], after["canary"]) == (before["stable"], before["canary"])
    trials.call("freeze")
    assert trials.call("retrain").status_code == 409
