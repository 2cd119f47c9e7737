from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from training.config import TrainingConfig
from training.distributions import Categorical, Quantiles
from training.environments import describe_environment
from training.mistakes import find_mistakes
from training.preset import preset_names


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
    with pytest.raises(ValueError, match=r"no preset 'cartpol'; there are: .*cartpole"):
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


IDEAS: dict[str, dict[str, Any]] = {
    "double": {"double": True},
    "dueling": {"dueling": True},
    "prioritised": {"prioritised": True},
    "n_step": {"n_step": 3},
    "noisy": {"noise_scale": 0.5, "initial_epsilon": 1e-6, "final_epsilon": 1e-6},
    "c51": {"distribution": Categorical(minimum=0.0, maximum=12.0)},
    "qr": {"distribution": Quantiles()},
}


@pytest.mark.parametrize("preset", IDEAS)
def test_a_preset_differs_from_dqn_in_its_papers_idea_alone(preset: str) -> None:
    dqn, variant = (
        TrainingConfig.from_arguments(["--preset", name, "--out", "x"]).model_dump()
        for name in ("dqn", preset)
    )
    assert not any(dqn[name] for name in ("double", "dueling", "prioritised", "distribution"))
    changed = {name: value for name, value in variant.items() if value != dqn[name]}
    expected = TrainingConfig.model_construct(**IDEAS[preset]).model_dump(
        include=set(IDEAS[preset])
    )
    assert changed == expected | {"preset": preset}


def test_rainbow_is_all_the_ideas_together() -> None:
    dqn, rainbow = (
        TrainingConfig.from_arguments(["--preset", name, "--out", "x"]).model_dump()
        for name in ("dqn", "rainbow")
    )
    changed = {name for name, value in rainbow.items() if value != dqn[name]}
    assert changed == {name for idea in IDEAS.values() for name in idea} | {"preset"}


@pytest.mark.parametrize("idea", [idea for name, idea in IDEAS.items() if name != "qr"])
def test_every_idea_can_be_left_out_of_rainbow(idea: dict[str, Any]) -> None:
    rainbow = TrainingConfig.from_arguments(["--preset", "rainbow", "--out", "x"])
    without = {name: TrainingConfig.model_fields[name].default for name in idea}
    without["double"] = False if "double" in idea else rainbow.double
    config = TrainingConfig.model_validate(rainbow.model_dump() | without)
    assert all(getattr(config, name) == value for name, value in without.items())


def test_a_preset_that_extends_another_wins_over_it(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('extends = "lunarlander"\nbatch_size = 7\n')
    config = TrainingConfig.from_arguments(["--preset", str(tmp_path / "mine.toml"), "--out", "x"])
    assert (config.environment_id, config.batch_size) == ("LunarLander-v3", 7)


def test_convolutions_and_normalised_observations_are_not_taken_together() -> None:
    flags = ["--out", "x", "--environment-id", "ALE/Pong-v5", "--convolutions", "nature"]
    with pytest.raises(ValidationError, match="set --no-normalise-observations"):
        TrainingConfig.from_arguments(flags)
    assert TrainingConfig.from_arguments([*flags, "--no-normalise-observations"]).convolutions


def test_a_distribution_is_given_as_json() -> None:
    config = TrainingConfig.from_arguments(
        [
            *("--out", "x", "--environment-id", "CartPole-v1"),
            *("--distribution", '{"kind": "categorical", "minimum": -5, "maximum": 5}'),
        ]
    )
    assert config.distribution == Categorical(minimum=-5.0, maximum=5.0)


def test_the_updates_of_a_run_are_counted_as_they_will_be_done() -> None:
    config = TrainingConfig.from_arguments(
        [
            *("--out", "x", "--environment-id", "CartPole-v1", "--total-steps", "1000"),
            *(
                "--learning-starts",
                "100",
                "--steps-between-updates",
                "64",
                "--updates-per-round",
                "5",
            ),
        ]
    )
    # Rounds end at 64, 128, …, 1024; those from 128 on learn.
    assert config.num_updates == 15 * 5
