from pathlib import Path

import pytest
from pydantic import ValidationError

from training.config import TrainingConfig, preset_names
from training.environments import describe_environment
from training.mistakes import find_mistakes


def test_a_flag_overrides_the_preset_and_the_preset_the_default(tmp_path: Path) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text(
        'environment_id = "CartPole-v1"\nhidden_sizes = [32, 16]\n'
        "discount = 0.9\nbatch_size = 7\ndouble = true\n"
    )
    config = TrainingConfig.from_arguments(
        ["--preset", str(preset), "--out", "x", "--batch-size", "9", "--no-double"]
    )
    assert config.preset == str(preset)
    assert (config.hidden_sizes, config.discount) == ((32, 16), 0.9)
    assert (config.batch_size, config.double) == (9, False)
    assert config.loss == "huber"


def test_sizes_are_given_with_commas() -> None:
    config = TrainingConfig.from_arguments(
        ["--out", "x", "--environment-id", "CartPole-v1", "--hidden-sizes", "64,32"]
    )
    assert config.hidden_sizes == (64, 32)


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_is_valid_and_makes_none_of_the_four_mistakes(preset: str) -> None:
    config = TrainingConfig.from_arguments(["--preset", preset, "--out", "x"])
    assert find_mistakes(config, describe_environment(config.environment_id).observation) == []


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no preset 'cartpol'; there are: cartpole"):
        TrainingConfig.from_arguments(["--preset", "cartpol", "--out", "x"])


def test_a_misspelt_key_of_a_preset_is_refused(tmp_path: Path) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text('environment_id = "CartPole-v1"\nlearning_rat = 0.1\n')
    with pytest.raises(ValidationError, match="learning_rat"):
        TrainingConfig.from_arguments(["--preset", str(preset), "--out", "x"])


def test_an_unknown_flag_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        TrainingConfig.from_arguments(["--preset", "cartpole", "--out", "x", "--batchsize", "3"])
    assert exit_info.value.code == 2
    assert "--batchsize" in capsys.readouterr().err


def test_the_environment_of_the_shell_changes_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BATCH_SIZE", "DQN_TRAINING_BATCH_SIZE"):
        monkeypatch.setenv(name, "3")
    config = TrainingConfig.from_arguments(["--preset", "cartpole", "--out", "x"])
    assert config.batch_size != 3


def test_the_whole_config_comes_back_from_its_json() -> None:
    config = TrainingConfig.from_arguments(["--preset", "cartpole", "--out", "x", "--seed", "5"])
    assert TrainingConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--discount", "1.0", "less than 1"),
        ("--steps-between-updates", "12", "expected a multiple of num_environments"),
        ("--learning-starts", "70000000", "expected at most total_steps"),
        ("--loss", "absolute", "'huber' or 'mse'"),
    ],
)
def test_a_value_out_of_range_is_refused(flag: str, value: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainingConfig.from_arguments(["--preset", "cartpole", "--out", "x", flag, value])


def test_help_tells_what_every_flag_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        TrainingConfig.from_arguments(["--help"])
    assert exit_info.value.code == 0
    text = capsys.readouterr().out
    assert "--epsilon-steps" in text
    assert "Length of the epsilon schedule" in " ".join(text.split())
    assert "--resume" in text
