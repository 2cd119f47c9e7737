import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.builders import training_config
from training import evaluate
from training.__main__ import main
from training.checkpoint import read_checkpoint

SHORT_CARTPOLE = [
    *("--preset", "cartpole", "--total-steps", "512", "--learning-starts", "256"),
    *("--evaluation-every-steps", "256", "--evaluation-episodes", "2", "--no-tensorboard"),
]


def test_a_run_leaves_a_checkpoint_that_evaluate_can_play(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SHORT_CARTPOLE, "--out", str(tmp_path), "--seed", "4"]) == 0
    assert "did all its steps at step 512" in capsys.readouterr().out
    assert read_checkpoint(tmp_path / "best").metadata.seed == 4

    assert evaluate.main([str(tmp_path / "best"), "--episodes", "3"]) == 0
    assert "over 3 episodes at epsilon 0" in capsys.readouterr().out


def test_a_value_out_of_range_names_its_flag(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SHORT_CARTPOLE, "--out", str(tmp_path), "--batch-size", "0"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "--batch-size: Input should be greater than 0, found '0'" in error


def test_a_missing_flag_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--preset", "cartpole"]) == 2
    assert "--out: Field required" in capsys.readouterr().err


def test_an_environment_that_does_not_exist_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*SHORT_CARTPOLE, "--out", str(tmp_path), "--environment-id", "CartPoll-v1"]
    assert main(arguments) == 2
    assert "CartPoll" in capsys.readouterr().err


def test_a_run_that_diverges_exits_with_1_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = "--learning-rate 1000 --gradient-norm-limit 1e9 --learning-rate-schedule constant"
    arguments = [*SHORT_CARTPOLE, "--out", str(tmp_path), *wild.split(), "--total-steps", "4096"]
    assert main(arguments) == 1
    assert "stopped: |Q| is" in capsys.readouterr().err


def test_resume_takes_no_other_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--resume", "runs/1", "--seed", "3"]) == 2
    assert "takes no other flags" in capsys.readouterr().err


def test_variables_of_the_shell_are_no_flags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main([*SHORT_CARTPOLE, "--out", str(tmp_path)])
    monkeypatch.setenv("EPISODES", "1")
    assert evaluate.main([str(tmp_path / "best"), "--episodes", "2"]) == 0
    monkeypatch.setenv("EPSILON", "0.5")
    assert evaluate.main([str(tmp_path / "best"), "--episodes", "2"]) == 0
    assert capsys.readouterr().out.count("over 2 episodes at epsilon 0;") == 2


def test_evaluating_what_is_no_checkpoint_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([str(tmp_path)]) == 2
    assert "not a checkpoint" in capsys.readouterr().err


def test_without_tensorboard_a_run_still_logs(tmp_path: Path) -> None:
    config = training_config(tmp_path / "run", tensorboard=True, total_steps=208)
    code = (
        "import sys; sys.modules['tensorboard'] = None\n"
        "from rich.console import Console\n"
        "from training.config import TrainingConfig\n"
        "from training.online import train\n"
        f"train(TrainingConfig.model_validate_json('''{config.model_dump_json()}'''), Console())\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)
    assert (tmp_path / "run" / "episodes.jsonl").stat().st_size > 0
    assert not (tmp_path / "run" / "tensorboard").exists()
