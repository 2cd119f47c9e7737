from pathlib import Path

import yaml

from benchmarks.drill.agents import Tally
from benchmarks.drill.incidents import INCIDENTS, Incident
from benchmarks.drill.replay import Found, Told
from benchmarks.drill.scaled_rules import read_alerts, write_scaled
from benchmarks.drill.site import beginning_of_last
from benchmarks.rules.mutants import mutants_of

RULE = {
    "alert": "Slow",
    "expr": 'rate(dqn_x_total{code="5m"}[5m] offset 1h) > 100 and rate(dqn_x_total[1m]) < 3',
    "for": "2m",
}
DOCUMENT = {"groups": [{"name": "g", "rules": [RULE]}]}


def test_a_drill_shortens_windows_and_deadlines_and_no_threshold(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    (tmp_path / "from" / "rules.yml").write_text(yaml.safe_dump(DOCUMENT))
    (written,) = write_scaled(tmp_path / "from", tmp_path / "to")
    scaled = yaml.safe_load(written.read_text())["groups"][0]["rules"][0]
    # A minute would be two seconds: too few scrapes for a rate.
    assert scaled["expr"] == (
        'rate(dqn_x_total{code="5m"}[10s] offset 120s) > 100 and rate(dqn_x_total[5s]) < 3'
    )
    assert scaled["for"] == "4s"


def test_a_mutant_differs_in_one_place_that_is_no_label_and_no_window() -> None:
    mutants = list(mutants_of(DOCUMENT))
    exprs = [mutant.document["groups"][0]["rules"][0]["expr"] for mutant in mutants]
    assert all("[5m]" in expr and 'code="5m"' in expr and "[1m]" in expr for expr in exprs)
    changes = [mutant.change.partition(" at ")[0] for mutant in mutants]
    assert changes == [
        "> -> >=",
        "> -> <",
        "100 -> 110",
        "100 -> 90",
        "and -> or",
        "< -> <=",
        "< -> >",
        "3 -> 3.3",
        "3 -> 2.7",
        "for 2m -> twice",
        "for 2m -> none",
    ]
    assert DOCUMENT["groups"][0]["rules"][0] == RULE


def test_what_an_alert_reads_from_recordings_is_asked_of_the_series_themselves(
    tmp_path: Path,
) -> None:
    recordings = [
        {"record": "policy:dqn_x:rate1m", "expr": "sum(rate(dqn_x_total[1m]))"},
        {"record": "policy:dqn_y:ratio", "expr": "dqn_y / policy:dqn_x:rate1m"},
    ]
    alert = {
        "alert": "Y",
        "expr": "policy:dqn_y:ratio > 2 and policy:dqn_y:ratio_rate5m",
        "for": "9s",
    }
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [*recordings, alert]}]}))
    found = read_alerts([path])["Y"]
    assert found.expr == (
        "(dqn_y / (sum(rate(dqn_x_total[1m])))) > 2 and policy:dqn_y:ratio_rate5m"
    )
    assert found.wait_seconds == 9


def test_an_alert_is_in_time_up_to_two_scrapes_and_its_wait_after_the_crossing() -> None:
    assert told(from_crossing=5.0, wait_seconds=3).is_in_time
    assert not told(from_crossing=5.1, wait_seconds=3).is_in_time
    assert not told(from_crossing=None, wait_seconds=3).is_in_time


def test_an_incident_is_not_met_where_one_thing_is_wrong() -> None:
    trial = next(incident for incident in INCIDENTS if incident.is_trial)
    soon = next(incident for incident in INCIDENTS if incident.most_episodes == 60)
    assert found(trial, [told()], is_rolled_back=True).is_met
    assert not found(trial, [told()], is_rolled_back=False).is_met
    assert found(soon, [told(episodes=60)]).is_met
    assert not found(soon, [told(episodes=61)]).is_met
    assert not found(soon, [told(), told(from_crossing=None)]).is_met
    assert not found(soon, [told()], tally=Tally(invalid=1)).is_met
    assert not found(soon, [told()], tally=Tally(failed=1)).is_met


def test_a_version_that_is_refused_is_met_by_its_refusal_alone() -> None:
    refused = next(incident for incident in INCIDENTS if not incident.alerts)
    assert found(refused, [], status=409).is_met
    assert not found(refused, [], status=200).is_met


def test_a_limit_that_was_left_again_is_crossed_anew() -> None:
    assert beginning_of_last([1.0, 1.1, 1.2, 2.0, 2.1], 0.1) == 2.0
    assert beginning_of_last([1.0, 1.1, 1.2], 0.1) == 1.0
    assert beginning_of_last([1.0], 0.1) == 1.0


def test_episodes_are_counted_up_to_the_moment_of_the_alert() -> None:
    assert Tally(ended=[1.0, 2.0, 3.0]).episodes_until(2.0) == 2


def told(*, from_crossing: float | None = 1.0, wait_seconds: int = 0, episodes: int = 1) -> Told:
    return Told("Any", wait_seconds, 9.0, from_crossing, episodes)


def found(
    incident: Incident,
    alerts: list[Told],
    *,
    status: int = 200,
    tally: Tally | None = None,
    is_rolled_back: bool = False,
) -> Found:
    return Found(incident, status, tuple(alerts), tally or Tally(), (), "", is_rolled_back)
