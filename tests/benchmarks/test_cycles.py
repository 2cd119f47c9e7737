from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.report import Figure, merged
from benchmarks.retraining.beside import Pair, beside_figures
from benchmarks.retraining.cycle_figures import cycle_figures, is_told
from benchmarks.retraining.cycles import CycleFound
from benchmarks.retraining.mediocre import true_returns
from benchmarks.retraining.poles import HEALTHY, POLICY, Poles, World
from benchmarks.retraining.rival import METHODS, Beside, rival_figures
from tests import builders
from tests.service.running import promote, running, settings_for, wait_until

BLOCKED = CycleFound(
    number=0,
    cycle_id="one",
    fault=None,
    outcome="blocked",
    sentence="nothing worth shipping",
    trial=None,
    stable_before=1,
    stable_after=1,
    true_return=100.0,
    change=0.0,
    live_return=100.0,
    live_standard_error=1.0,
    live_episodes=500,
    failed_requests=0,
    rows={"model": 50_000},
    attempts=1,
    has_report=True,
    ledger=["retrain"],
    cpu_seconds=30.0,
    wall_seconds=60.0,
)


def found(**changes: Any) -> CycleFound:
    return CycleFound(**({field: getattr(BLOCKED, field) for field in fields()} | changes))


def fields() -> tuple[str, ...]:
    return CycleFound.__struct_fields__


def figure_of(figures: list[Figure], words: str) -> Figure:
    (chosen,) = [figure for figure in figures if words in figure.figure]
    return chosen


@pytest.mark.parametrize(("return_after", "is_met"), [(96.0, True), (95.0, False)])
def test_a_return_may_fall_by_three_standard_errors_and_no_more(
    return_after: float, is_met: bool
) -> None:
    # Of a difference of two means the standard error is 1.41.
    figures = cycle_figures([found(), found(live_return=return_after)])
    assert figure_of(figures, "greatest fall").met is is_met


@pytest.mark.parametrize(("change", "is_met"), [(-3.9, True), (-4.1, False)])
def test_a_promotion_may_be_worse_by_two_hundredths_of_the_range(
    change: float, is_met: bool
) -> None:
    cycles = [found(), found(stable_after=2, trial="promoted", change=change)]
    figures = cycle_figures(cycles)
    assert figure_of(figures, "promotions of a version").met is is_met
    assert figure_of(figures, "worst promotion").value == change


def test_a_story_is_told_where_report_and_ledger_have_it_whole() -> None:
    assert is_told(BLOCKED)
    assert not is_told(found(has_report=False))
    # What a blocked cycle shipped nobody was told of.
    assert not is_told(found(ledger=["retrain", "register"]))
    ledger = ["retrain", "register", "shadow", "shadow", "canary", "promote"]
    assert is_told(found(outcome="canary", trial="promoted", ledger=ledger))
    assert not is_told(found(outcome="canary", trial="rolled_back", ledger=ledger))
    assert not is_told(found(outcome="canary", trial="promoted", ledger=ledger[:-1]))


def test_a_part_measured_anew_replaces_itself_and_nothing_else() -> None:
    written = [Figure(f"{part}: a", 1.0, "s") for part in ("gate, cartpole", "gate, lunarlander")]
    order = ["gate, ", "cycles, "]
    told = merged(written, "gate, cartpole:", [Figure("gate, cartpole: b", 2.0, "s")], order)
    assert [each.figure for each in told] == ["gate, lunarlander: a", "gate, cartpole: b"]
    told = merged([Figure("cycles, c", 3.0, "s")], "gate, cartpole:", told, order)
    assert [each.value for each in told] == [1.0, 2.0, 3.0]


def test_the_rise_is_of_all_answers_and_a_missing_one_is_told() -> None:
    rng = np.random.default_rng(0)
    alone = np.full(1_000, 0.010)
    beside = np.append(np.full(999, 0.012), np.nan)
    figures = beside_figures([Pair(alone, beside, 0.9), Pair(alone, beside, 0.7)], rng)
    assert figures[0].value == pytest.approx(0.2)
    assert figures[0].met is False
    assert figure_of(figures, "without an answer").value == 2
    assert figure_of(figures, "what the cycle got").value == pytest.approx(0.8)


def test_ours_is_held_against_each_of_theirs() -> None:
    theirs = {
        "cpu_seconds": 100.0,
        "wall_seconds": 50.0,
        "evaluation_cpu_seconds": 20.0,
        "evaluation_wall_seconds": 13.0,
        "mean_return": 200.0,
        "discounted_return": 8.0,
        "estimate": 15.0,
        "highest_possible": 10.0,
    }
    figures = rival_figures([Beside(60.0, 300.0, 25.0, 60.0, dict.fromkeys(METHODS, theirs))])
    ratios = [1.5, 4.0, pytest.approx(50 / 60), 4.8, pytest.approx(63 / 60)]
    assert [figure.ratio for figure in figures[1:6]] == ratios
    assert [figure.met for figure in figures[1:6]] == [True, True, False, True, True]


def test_true_returns_are_of_the_same_starts_each_time() -> None:
    rng = np.random.default_rng(0)
    left = true_returns(lambda rows: np.zeros(len(rows), np.int64), num_starts=20)
    again = true_returns(lambda rows: np.zeros(len(rows), np.int64), num_starts=20)
    assert (left == again).all()
    assert 7 <= left.min() <= left.max() <= 12
    drawn = true_returns(lambda rows: rng.integers(2, size=len(rows)), num_starts=20)
    assert drawn.mean() > 15


def test_poles_tell_a_world_at_fault_and_count_only_healthy_returns(tmp_path: Path) -> None:
    declared = builders.declaration()
    builders.write_policy(tmp_path / "policies", declared, policy=POLICY)
    promote(tmp_path, policy=POLICY)
    with running(settings_for(tmp_path)) as service:
        wait_until(lambda: service.client.get("/readyz").status_code == 200, "the service")
        poles = Poles(str(service.client.base_url), None, 4, pause_seconds=0.0, seed=0)
        try:
            poles.play(400, HEALTHY)
            healthy = poles.take_tally()
            # Each agent does by chance what it says that it was told.
            poles.play(1_600, World(slip=1.0))
            poles.take_tally()
            poles.play(200, World(slip=1.0))
            at_fault = poles.take_tally()
        finally:
            poles.stop()
    assert (healthy.failed, at_fault.failed) == (0, 0)
    assert sum(healthy.returns) == healthy.steps
    assert np.mean(healthy.returns) > 100
    assert (at_fault.returns, at_fault.steps > 0) == ([], True)
