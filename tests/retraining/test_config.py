from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import CliApp

from retraining.config import RetrainConfig, parse_duration
from retraining.metrics import RetrainingMetrics
from retraining.state import CycleState
from tests.retraining.test_gate import evidence


@pytest.mark.parametrize(
    ("text", "seconds"), [("6h", 21600.0), ("90m", 5400.0), ("1.5d", 129600.0), ("30", 30.0)]
)
def test_durations_are_words_or_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


def test_flags_reach_every_part_and_unknown_ones_are_refused() -> None:
    flags = ["--policy", "pole", "--every", "6h", "--offline.updates", "7"]
    config = CliApp.run(RetrainConfig, cli_args=flags)
    assert (config.every, config.offline.updates) == (21600.0, 7)
    with pytest.raises(ValidationError, match="expected a duration"):
        RetrainConfig.model_validate({"policy": "pole", "every": "soon"})


def test_datasets_are_looked_for_where_the_recorder_is_told_to_keep_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert RetrainConfig(policy="pole", data=Path("d")).dataset_root == Path("d/datasets")
    monkeypatch.setenv("DQN_RECORD_DATASETS", "s3://bucket/datasets")
    assert RetrainConfig(policy="pole", data=Path("d")).dataset_root == "s3://bucket/datasets"


def test_metrics_begin_at_zero_and_tell_how_the_last_cycle_ended() -> None:
    metrics = RetrainingMetrics("pole")

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, {"policy": "pole", **labels})

    assert value("dqn_retrain_runs_total", outcome="blocked") == 0.0
    verdict = {"decision": "block", "sentence": "", "evidence": evidence(advantage=0.3)}
    state = CycleState.model_validate(
        {
            "cycle_id": "c",
            "policy": "pole",
            "started_at": 1.0,
            "seed": 0,
            "outcome": "blocked",
            "verdict": verdict,
            "finished_at": 77.0,
            "suspicious": {"not_finite": 2, "illegal_action": 3},
        }
    )
    metrics.show_end(state)
    metrics.show_stage("judge")
    assert value("dqn_retrain_runs_total", outcome="blocked") == 1.0
    assert value("dqn_retrain_last_success_timestamp_seconds") == 77.0
    assert value("dqn_retrain_candidate_advantage") == 0.3
    assert value("dqn_retrain_suspicious_episodes") == 5.0
    assert value("dqn_retrain_stage", stage="judge") == 1.0
    assert value("dqn_retrain_stage", stage="done") == 0.0
