import sys
from pathlib import Path

import pytest

from benchmarks.training.overestimation import bias, bias_figures, ratio_figures
from benchmarks.training.processes import (
    Program,
    ProgramError,
    run,
    seconds_a_step,
    slope,
)
from benchmarks.training.replay import per_cpu_second
from benchmarks.training.thresholds import Trained, Until, cartpole_figures, learn_until
from training.evaluate import EvaluationResult

PROGRAM = """
import time
while time.process_time() < 0.05: pass
print("noise")
print('{"reached": 480.5}')
"""


def trained(
    start_q_values: list[float], start_returns: list[float], mean_return: float = 500.0
) -> Trained:
    size = len(start_returns)
    return Trained(
        cpu_seconds=10.0,
        result=EvaluationResult(
            returns=(mean_return,) * size,
            lengths=(1,) * size,
            start_q_values=tuple(start_q_values),
            start_returns=tuple(start_returns),
        ),
    )


def test_bias_is_in_standard_deviations_of_the_returns() -> None:
    # Gaps 3 and 1 have the mean 2; returns 0 and 8 the standard deviation 4.
    assert bias(trained([3.0, 9.0], [0.0, 8.0]).result) == 0.5


def test_the_worst_bias_counts_whichever_its_sign() -> None:
    runs = [trained([0.4, 8.4], [0.0, 8.0]), trained([-2.0, 6.0], [0.0, 8.0])]
    (figure,) = bias_figures("x", runs, [])
    assert (figure.value, figure.met) == (-0.5, False)


def test_one_seed_outside_the_range_misses_the_goal() -> None:
    good, low = trained([10.0], [10.0]), trained([9.0], [10.0])
    assert [figure.met for figure in ratio_figures("x", [good, good], [])] == [True, True]
    figures = ratio_figures("x", [good, low], [trained([13.0], [10.0])])
    assert [figure.value for figure in figures] == [0.9, 1.0]
    assert [figure.met for figure in figures] == [False, False]
    assert figures[0].rival == "vanilla DQN: 1.30 to 1.30"


def test_every_seed_must_reach_475() -> None:
    runs = [trained([1.0], [1.0], 475.0), trained([1.0], [1.0], 474.9)]
    figures = cartpole_figures(runs, [Until(1.0, True)], [], None)
    assert (figures[0].value, figures[0].met) == (1, False)


def test_the_median_seed_must_get_there_in_half_the_time_and_every_seed_must() -> None:
    runs = [trained([1.0], [1.0], 500.0)]
    theirs = [Until(9.0, True), Until(8.0, True), Until(40.0, False)]
    ours = [Until(4.5, True), Until(1.0, True), Until(20.0, True)]
    timed = cartpole_figures(runs, ours, theirs, "SB3")[-1]
    assert (timed.value, timed.ratio, timed.met) == (4.5, 2.0, True)
    assert timed.rival == "9 s; 2 of its seeds got there, 3 of ours"
    ours[1] = Until(1.0, False)
    assert cartpole_figures(runs, ours, theirs, "SB3")[-1].met is False


def test_this_projects_program_stops_at_what_is_asked() -> None:
    steps, seeds = 40_000, [0]
    command = (sys.executable, "-m", "benchmarks.training.until", "--preset", "cartpole")
    (found,) = learn_until(command, 15.0, steps, seeds)
    assert found.is_reached
    (found,) = learn_until(command, 501.0, 32, seeds)
    assert not found.is_reached


def test_a_program_is_charged_the_cpu_time_of_its_process(tmp_path: Path) -> None:
    spent = run([sys.executable, "-c", PROGRAM], tmp_path)
    assert spent.cpu_seconds >= 0.05
    assert spent.printed == {"reached": 480.5}


def test_start_up_is_no_part_of_what_a_step_costs() -> None:
    # 30 s of start-up and 2 ms a step.
    assert slope((1_000, 6_000), (32.0, 42.0)) == pytest.approx(0.002)


def test_a_dearer_step_costs_more_of_programs_that_take_turns() -> None:
    # Each begins with 0.2 CPU seconds that its steps do not cost.
    burn = "import os, sys, time\nend = 0.2 + int(sys.argv[2]) * float(os.environ['COST'])\n"
    burn += "while time.process_time() < end: pass"
    cheap, dear = (
        Program((sys.executable, "-c", burn), "--steps", {"COST": cost}) for cost in ("0", "0.02")
    )
    costs = seconds_a_step([cheap, dear], (5, 30), rounds=1)
    assert costs[1] > costs[0] + 0.01


def test_a_program_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="no such luck"):
        run([sys.executable, "-c", "raise SystemExit('no such luck')"], tmp_path)


def test_a_rate_is_of_calls_in_a_cpu_second() -> None:
    calls: list[None] = []
    rate = per_cpu_second(lambda: calls.append(None), 0.05)
    assert rate > 0
    assert len(calls) <= rate * 1.0
