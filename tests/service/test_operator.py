import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import builders
from tests.service import models
from tests.service.running import Running, promote, running, settings_for, wait_until

LEFT = [0.0, 0.0, -0.1, 0.0]
_numbers = count()


class Operated:
    """A policy of a test's own, with versions 1 and 2 and a foul 3, and the calls on it."""

    def __init__(self, service: Running, data: Path) -> None:
        self.name = f"policy-{next(_numbers)}"
        self.service = service
        self.data = data
        repository = data / "policies"
        for version in (1, 2):
            builders.write_policy(repository, policy=self.name, version=version)
        models.write_model(
            repository,
            models.root_model(),
            policy=self.name,
            version=3,
            golden=builders.golden(),
        )
        wait_until(lambda: self.get("").status_code == 200, "the policy is declared")

    def get(self, path: str) -> httpx.Response:
        return self.service.client.get(f"/v1/policies/{self.name}{path}")

    def call(self, verb: str, **fields: Any) -> httpx.Response:
        body = {"why": "a test"} | fields
        return self.service.client.post(f"/v1/policies/{self.name}/{verb}", json=body)

    def make_stable(self, version: int) -> None:
        """Without the call under test."""
        promote(self.data, version, self.name)
        wait_until(lambda: self.get("").json()["stable"] == version, f"version {version}")

    def changes(self) -> list[tuple[str, int | None]]:
        """What the ledger holds of it, save what workers note."""
        entries = self.get("/ledger").json()["entries"]
        return [
            (entry["action"], entry.get("version"))
            for entry in entries
            if not entry["action"].startswith("load")
        ]


@pytest.fixture(scope="module")
def operated_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("operated")


@pytest.fixture(scope="module")
def operated_service(operated_data: Path) -> Iterator[Running]:
    with running(settings_for(operated_data)) as started:
        yield started


@pytest.fixture
def policy(operated_service: Running, operated_data: Path) -> Operated:
    return Operated(operated_service, operated_data)


def test_the_first_promotion_says_so_and_no_later_one_does(policy: Operated) -> None:
    refused = policy.call("promote", version=1)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert "needs `first`" in refused.json()["error"]
    done = policy.call("promote", version=1, first=True)
    assert done.status_code == 200
    assert done.json()["policy"]["stable"] == 1
    assert done.json()["entry"]["why"] == "a test"
    refused = policy.call("promote", version=2, first=True)
    assert refused.status_code == 409
    assert "must not say" in refused.json()["error"]
    assert policy.changes() == [("promote", 1)]
    versions = policy.get("/versions").json()
    aliases = {"stable": 1, "canary": None, "shadow": None, "previous": None}
    assert versions == {"versions": [1, 2, 3]} | aliases


def test_a_version_that_does_not_load_is_not_promoted(policy: Operated) -> None:
    for version, said in ((3, "golden batch"), (9, "manifest.json")):
        refused = policy.call("promote", version=version, first=True)
        assert refused.status_code == 409
        assert f"version {version} may not serve" in refused.json()["error"]
        assert said in refused.json()["error"]
    assert policy.changes() == []


def test_a_freeze_stops_promotions_and_no_rollback(policy: Operated) -> None:
    policy.make_stable(1)
    policy.make_stable(2)
    assert policy.call("freeze").status_code == 200
    refused = policy.call("promote", version=1)
    assert refused.status_code == 409
    assert "frozen" in refused.json()["error"]
    assert policy.call("rollback").json()["policy"]["stable"] == 1
    assert policy.call("unfreeze").status_code == 200
    assert policy.changes()[2:] == [("freeze", None), ("rollback", 1), ("unfreeze", None)]


def test_a_change_is_refused_where_stable_is_not_what_its_caller_saw(policy: Operated) -> None:
    policy.make_stable(1)
    for verb, fields in (("promote", {"version": 2}), ("pin", {}), ("rollback", {"to": 2})):
        refused = policy.call(verb, expected_stable=2, **fields)
        assert refused.status_code == 409
        assert "is 1, expected_stable is 2" in refused.json()["error"]
    assert policy.changes() == [("promote", 1)]
    assert policy.call("pin", expected_stable=1).status_code == 200


def test_a_call_sent_again_with_its_key_changes_nothing_more(policy: Operated) -> None:
    first = policy.call("promote", version=1, first=True, key="k", expected_stable=None)
    again = policy.call("promote", version=1, first=True, key="k")
    assert first.status_code == again.status_code == 200
    assert first.json()["entry"] == again.json()["entry"]
    other = policy.call("promote", version=2, key="k")
    assert other.status_code == 409
    assert "'k'" in other.json()["error"]
    assert policy.call("pin", key="k").status_code == 409
    assert policy.changes() == [("promote", 1)]


def test_a_rollback_goes_to_the_previous_version_and_sent_again_stays_there(
    policy: Operated,
) -> None:
    assert policy.call("rollback").status_code == 422
    policy.make_stable(1)
    policy.make_stable(2)
    for _ in range(2):
        assert policy.call("rollback", key="back").json()["policy"]["stable"] == 1
    assert policy.call("rollback", to=2).json()["policy"]["stable"] == 2
    assert policy.changes()[2:] == [("rollback", 1), ("rollback", 2)]


def test_a_pin_lets_the_heuristic_answer_until_it_is_lifted(policy: Operated) -> None:
    policy.make_stable(1)

    def answer() -> dict[str, Any]:
        body: dict[str, Any] = policy.service.act([LEFT], policy=policy.name).json()
        return body

    assert answer()["actions"] == [0]
    told = policy.call("pin").json()["policy"]
    assert (told["pinned"], told["source"], told["degraded"]) == (True, "heuristic", True)
    assert answer()["actions"] == [1]
    assert answer()["answered_by"][0]["reason"] == "pinned"
    assert answer()["answered_by"][0]["version"] == 1
    ready = policy.service.client.get("/readyz").json()
    assert f"{policy.name}: pinned to the heuristic by an operator" in ready["why"]
    policy.call("unpin")
    assert answer()["actions"] == [0]


def test_of_two_racing_first_promotions_one_is_made(policy: Operated) -> None:
    statuses: dict[int, int] = {}

    def race(version: int) -> None:
        with httpx.Client(base_url=policy.service.client.base_url, timeout=60.0) as client:
            body = {"why": "race", "version": version, "first": True}
            response = client.post(f"/v1/policies/{policy.name}/promote", json=body)
            statuses[version] = response.status_code

    racers = [threading.Thread(target=race, args=(version,)) for version in (1, 2)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert sorted(statuses.values()) == [200, 409]
    (winner,) = [version for version, status in statuses.items() if status == 200]
    assert policy.changes() == [("promote", winner)]
    assert policy.get("").json()["stable"] == winner


@pytest.mark.parametrize(
    ("verb", "body", "named"),
    [
        ("pin", {}, "why"),
        ("pin", {"why": ""}, "why"),
        ("pin", {"why": "x", "colour": 1}, "colour"),
        ("promote", {"why": "x"}, "version"),
        ("promote", {"why": "x", "version": 0}, "version"),
        ("rollback", {"why": "x", "to": "one"}, "to"),
        ("pin", {"why": "x", "key": "k" * 129}, "key"),
    ],
)
def test_a_malformed_change_names_its_field(
    policy: Operated, verb: str, body: dict[str, Any], named: str
) -> None:
    response = policy.service.client.post(f"/v1/policies/{policy.name}/{verb}", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert named in response.json()["error"]


def test_a_change_of_an_unknown_policy_is_404(operated_service: Running) -> None:
    response = operated_service.client.post("/v1/policies/none/pin", json={"why": "x"})
    assert (response.status_code, response.json()["code"]) == (404, "unknown_policy")
