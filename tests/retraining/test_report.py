from retraining.report import render_report
from retraining.state import CycleState
from tests.retraining.test_gate import evidence


def test_a_report_tells_what_was_read_learned_found_and_shipped() -> None:
    state = CycleState.model_validate(
        {
            "cycle_id": "c-1",
            "policy": "pole",
            "started_at": 1.0,
            "seed": 0,
            "parent": 4,
            "outcome": "canary",
            "sentence": "version 5 is on trial",
            "dataset_id": "pole-abc",
            "num_steps": 12_345,
            "num_episodes": 67,
            "suspicious": {"not_finite": 0, "illegal_action": 3},
            "candidates": ((0.5, 100, 1.25), (0.5, 200, None), (None, 100, -2.5)),
            "diverged": {"4": "|Q| is 1e9"},
            "chosen": (0.5, 100),
            "verdict": {"decision": "pass", "sentence": "it is better", "evidence": evidence()},
            "simulated_returns": {"current": 44.5},
            "version": 5,
        }
    )
    report = render_report(state)
    for told in (
        "**canary**: version 5 is on trial",
        "| learned on from | version 4 |",
        "| dataset | pole-abc |",
        "| steps | 12,345 |",
        "| episodes left out: illegal_action | 3 |",
        "| 0.5 | 100 | 1.25 | chosen |",
        "| 0.5 | 200 | not possible |  |",
        "| model | 100 | -2.5 |  |",
        "alpha 4 was stopped: |Q| is 1e9",
        "**pass**: it is better",
        "| advantage lower bound | 1 |",
        "| simulated return of the current | 44.5 |",
    ):
        assert told in report
    assert "not_finite" not in report


def test_a_cycle_that_stopped_early_tells_only_what_it_knows() -> None:
    state = CycleState(
        cycle_id="c-1", policy="pole", started_at=1.0, seed=0, outcome="too_little", sentence="few"
    )
    report = render_report(state)
    assert "**too_little**: few" in report
    assert "## Verdict" not in report
    assert "## Learning" not in report
    assert "None" not in report
