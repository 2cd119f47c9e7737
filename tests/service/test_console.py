"""What the console is made of: its page, its files, and the calls that only it makes."""

import json
import re
from math import inf
from pathlib import Path

import msgspec
import pytest

from contract.declaration import ObservationSpec
from contract.evidence import Evidence
from contract.ledger import Entry
from contract.plan import RolloutPlan
from contract.rollout import Rollout
from service.faces.bundles import evidence_points
from tests import builders
from tests.service.running import Running, running, settings_for

FOLDER = Path(__file__).parents[2] / "service" / "console"
KINDS = {"css": "text/css;", "js": "text/javascript;", "svg": "image/svg+xml"}
OURS = sorted(path for path in FOLDER.glob("*.*"))


def policy_of(header: str) -> dict[str, str]:
    return {name: value for name, _, value in (x.strip().partition(" ") for x in header.split(";"))}


@pytest.mark.parametrize("path", ["/", "/docs", "/console/app.js", "/console/style.css"])
def test_the_page_may_run_only_what_it_came_with(service: Running, path: str) -> None:
    for client in (service.client, service.plain):
        headers = client.get(path).headers
        allowed = policy_of(headers["content-security-policy"])
        assert allowed["default-src"] == "'none'"
        assert {allowed[each] for each in ("script-src", "style-src", "connect-src")} == {"'self'"}
        assert allowed["frame-ancestors"] == "'none'"
        assert headers["x-content-type-options"] == "nosniff"


def test_every_file_the_pages_name_is_served_with_its_type(service: Running) -> None:
    named = []
    for page in ("/", "/docs"):
        found = service.client.get(page)
        assert found.headers["content-type"] == "text/html; charset=utf-8"
        named += re.findall(r'(?:src|href)="(console/[^"]+)"', found.text)
    modules = list(FOLDER.rglob("*.js"))
    named += [f"console/{path.relative_to(FOLDER).as_posix()}" for path in modules]
    assert len(named) > 3
    for path in named:
        found = service.client.get(f"/{path}")
        assert found.status_code == 200, path
        assert found.headers["content-type"].startswith(KINDS[path.rpartition(".")[2]])


@pytest.mark.parametrize(
    "path", ["../settings.py", "..%2fsettings.py", "vendor", "vendor/../../app.py", "none.js", ""]
)
def test_no_path_leads_out_of_the_folder(service: Running, path: str) -> None:
    found = service.client.get(f"/console/{path}")
    assert (found.status_code, found.json()["code"]) == (404, "not_found")


def test_no_page_is_made_of_what_another_host_has(service: Running) -> None:
    for page in ("/", "/docs", "/redoc"):
        found = service.client.get(page)
        is_html = found.headers["content-type"].startswith("text/html")
        assert is_html == (page != "/redoc")
        assert "//" not in found.text


def test_nothing_of_ours_names_another_host_or_writes_markup() -> None:
    assert OURS
    for path in OURS:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"https?://(?!www\.w3\.org)", text), path
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|\beval\(", text), path
        assert not re.search(r"\son\w+=|\sstyle=|<script(?! type=\"module\" src)", text), path


def test_the_vendored_library_has_its_licence_beside_it() -> None:
    assert "MIT" in (FOLDER / "vendor" / "uplot-LICENSE.txt").read_text(encoding="utf-8")


def test_links_to_dashboards_lead_to_the_web_or_nowhere(tmp_path: Path) -> None:
    assert settings_for(tmp_path, grafana_url="https://watch.example").grafana_url
    with pytest.raises(ValueError, match="grafana_url"):
        settings_for(tmp_path, grafana_url="javascript:alert(1)")


def test_a_version_is_told_with_card_and_lineage(service: Running) -> None:
    found = service.client.get("/v1/policies/cartpole/versions/1").json()
    assert found["card"] == "# cartpole v1\n"
    assert found["lineage"]["source"] == "training"
    assert found["training"]["episode_return"]["mean"] == 200.0
    assert found["training"]["absolute_q_maximum"] == 20.0


def test_a_version_whose_observations_have_no_bounds_is_told_too(tmp_path: Path) -> None:
    spec = ObservationSpec(shape=(4,), low=-inf, high=(1.0, inf, 2.0, inf))
    builders.write_policy(tmp_path / "policies", builders.declaration(observation=spec))
    with running(settings_for(tmp_path)) as started:
        found = started.client.get("/v1/policies/cartpole/versions/1")
    assert found.status_code == 200
    assert found.json()["training"] is None
    assert found.json()["observation"]["high"] == [1.0, "Infinity", 2.0, "Infinity"]


def test_a_version_that_is_not_there_is_not_found(service: Running) -> None:
    missing = service.client.get("/v1/policies/cartpole/versions/9")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")


def test_without_a_trial_there_is_no_evidence(service: Running) -> None:
    found = service.client.get("/v1/policies/cartpole/rollout/evidence").json()
    assert (found["rollout_id"], found["points"]) == (None, [])
    assert found["needed"] == {"rollback": 100.0, "promotion": 20.0}


def trial(rollout_id: str = "2-abc") -> Rollout:
    plan = RolloutPlan(return_range=(0.0, 100.0))
    return Rollout(rollout_id, "canary", 2, 1, plan, 0.0, 0.0, 0.0, 0.5)


def told(number: int, rollout_id: str, evidence: Evidence | None) -> Entry:
    details: dict[str, object] = {"rollout_id": rollout_id}
    if evidence is not None:
        details["evidence"] = msgspec.to_builtins(evidence.snapshot())
    return Entry(
        action="evidence",
        policy="cartpole",
        who="judge",
        why="so far",
        at=f"2026-01-01T00:{number // 60:02}:{number % 60:02}+00:00",
        details=json.loads(json.dumps(details)),
    )


def test_evidence_grows_point_by_point_and_is_of_the_trial_alone() -> None:
    evidence, entries = Evidence(0.05, (0.0, 100.0)), []
    for number in range(4):
        entries.append(told(number, "2-abc", evidence))
        evidence.add("stable", 90.0, 0.5)
        evidence.add("canary", 10.0, 0.5)
    entries += [told(9, "1-old", evidence), told(10, "2-abc", None)]
    points = evidence_points(trial(), entries)
    assert [point["blocks"] for point in points] == [0, 1, 2, 3]
    assert [point["at"] - points[0]["at"] for point in points] == [0, 1, 2, 3]
    rollback = [point["rollback"] for point in points]
    assert rollback[0] == pytest.approx(1.0)
    assert rollback == sorted(rollback)
    assert points[3]["promotion"] < 1 < points[3]["rollback"]


def test_a_long_trial_is_thinned_and_keeps_its_last_point() -> None:
    entries = [told(number, "2-abc", Evidence(0.05, None)) for number in range(1202)]
    points = evidence_points(trial(), entries)
    assert len(points) <= 500
    last = evidence_points(trial(), entries[-1:])[0]
    assert points[-1] == last
