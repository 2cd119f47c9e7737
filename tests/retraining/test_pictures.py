from typing import Any
from xml.etree import ElementTree

from retraining.pictures import draw_learning, draw_verdict
from retraining.state import CycleState
from tests.retraining.test_gate import evidence

SVG = "{http://www.w3.org/2000/svg}"


def state(**changes: Any) -> CycleState:
    fields = {"cycle_id": "c", "policy": "pole", "started_at": 1.0, "seed": 0}
    return CycleState.model_validate(fields | changes)


def test_higher_bounds_are_drawn_higher_and_the_chosen_one_is_ringed() -> None:
    candidates = ((0.5, 100, -2.0), (0.5, 200, 3.0), (4.0, 100, 0.0), (4.0, 200, None))
    picture = draw_learning(state(candidates=candidates, chosen=(0.5, 200)))
    assert picture is not None
    circles = ElementTree.fromstring(picture).findall(f"{SVG}circle")
    places = [(float(each.attrib["cx"]), float(each.attrib["cy"])) for each in circles]
    worst, best, even, ring = places
    assert best[1] < even[1] < worst[1]
    assert worst[0] == even[0] < best[0]
    assert ring == best


def test_what_was_learned_in_a_model_has_a_line_of_its_own() -> None:
    candidates = ((0.5, 100, -2.0), (None, 100, 3.0), (None, 200, 4.0))
    picture = draw_learning(state(candidates=candidates, chosen=(None, 200)))
    assert picture is not None
    drawn = ElementTree.fromstring(picture)
    assert len(drawn.findall(f"{SVG}polyline")) == 2
    assert "model" in [each.text for each in drawn.findall(f"{SVG}text")]
    *_, last, ring = drawn.findall(f"{SVG}circle")
    assert (ring.attrib["cx"], ring.attrib["cy"]) == (last.attrib["cx"], last.attrib["cy"])


def test_bars_are_as_long_as_what_they_stand_for() -> None:
    found = evidence(logged_return=20.0, candidate_estimate=40.0, current_estimate=-10.0)
    verdict = {"decision": "pass", "sentence": "<better>", "evidence": found}
    picture = draw_verdict(state(verdict=verdict))
    assert picture is not None
    bars = ElementTree.fromstring(picture).findall(f"{SVG}rect")
    logged, _, current, candidate, _ = (float(each.attrib["width"]) for each in bars)
    assert abs(candidate - 2 * logged) < 0.2
    assert abs(current - 0.5 * logged) < 0.2


def test_what_is_not_there_is_not_drawn() -> None:
    assert draw_learning(state(candidates=((0.5, 100, None),))) is None
    assert draw_verdict(state()) is None
