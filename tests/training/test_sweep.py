from pathlib import Path

import optuna
import pytest
import tomli_w
from rich.console import Console

from tests.training.builders import training_config
from training.checkpoint import read_checkpoint
from training.episode_log import EVALUATIONS_FILE, EvaluationRecord
from training.pictures import draw_importances
from training.report import ReportConfig, write_report
from training.sweep import SweepConfig, _Evaluations, importances, sweep
from training.sweep_space import Choices, Range, parse_space

PNG = b"\x89PNG"


@pytest.fixture
def preset(tmp_path: Path) -> str:
    """A preset of runs of a second, as a file."""
    fields = training_config(tmp_path, total_steps=400, evaluation_every_steps=200).model_dump(
        mode="json", exclude_none=True, exclude={"out", "seed", "preset"}
    )
    path = tmp_path / "tiny.toml"
    path.write_text(tomli_w.dumps(fields))
    return str(path)


def config(preset: str, out: Path, *vary: str, **changes: object) -> SweepConfig:
    fields = {"preset": preset, "out": out, "vary": list(vary)} | changes
    return SweepConfig.model_validate(fields)


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.trials]


def test_a_space_tells_whole_numbers_logarithms_and_lists_apart() -> None:
    space = parse_space(
        ["learning-rate=1e-4:1e-2:log", "batch_size=16:64", "double=true/false", "loss=mse/huber"]
    )
    assert space == {
        "learning_rate": Range(1e-4, 1e-2, log=True, is_integer=False),
        "batch_size": Range(16.0, 64.0, log=False, is_integer=True),
        "double": Choices((True, False)),
        "loss": Choices(("mse", "huber")),
    }


@pytest.mark.parametrize(
    ("vary", "why"),
    [
        (["learning_rates=1:2"], "not one more setting"),
        (["batch_size=1:2", "batch_size=3/4"], "not one more setting"),
        (["batch_size=64:16"], "64 is not below 16"),
        (["batch_size=16:64:lin"], "low:high:log"),
        (["loss=mse:huber"], "low:high:log"),
        (["double="], "no values"),
    ],
)
def test_what_cannot_be_varied_is_refused_with_the_reason(vary: list[str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_space(vary)


def test_a_sweep_that_was_stopped_goes_on_where_it_was(preset: str, tmp_path: Path) -> None:
    out, console = tmp_path / "study", Console(quiet=True)
    calls = iter([False] * 40 + [True] * 1000)
    first = sweep(config(preset, out, "loss=mse/huber", trials=3), console, lambda: next(calls))
    assert states(first)[:2] == ["COMPLETE", "FAIL"]
    interrupted = first.trials[1].params

    study = sweep(config(preset, out, "loss=mse/huber", trials=3), console)
    assert states(study).count("COMPLETE") == 3
    assert study.trials[2].params == interrupted
    # Nothing is left to do.
    assert len(sweep(config(preset, out, "loss=mse/huber", trials=3), console).trials) == 4

    for trial in study.trials:
        if trial.value is not None:
            metadata = read_checkpoint(out / f"trial-{trial.number}" / "best").metadata
            assert metadata.config["loss"] == trial.params["loss"]
            assert metadata.evaluation_return == trial.value

    runs = [out / "trial-0", out / "trial-2"]
    report = write_report(ReportConfig(runs=runs, out=tmp_path / "report", episodes=2))
    pictures = sorted(path.name for path in report.parent.glob("*.png"))
    assert len(pictures) == 6
    assert all((report.parent / name).read_bytes().startswith(PNG) for name in pictures)
    text = report.read_text()
    assert all(f"]({name})" in text for name in pictures)
    assert str(tmp_path / "study") not in text


def test_a_grid_tries_every_combination_once(preset: str, tmp_path: Path) -> None:
    study = sweep(
        config(preset, tmp_path / "s", "loss=mse/huber", "batch_size=8/16", sampler="grid"),
        Console(quiet=True),
    )
    tried = [(trial.params["loss"], trial.params["batch_size"]) for trial in study.trials]
    assert sorted(tried) == [("huber", 8), ("huber", 16), ("mse", 8), ("mse", 16)]
    shares = importances(study)
    assert set(shares) <= {"loss", "batch_size"}


def test_a_grid_of_a_range_is_refused(preset: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a grid needs a list of values for learning_rate"):
        sweep(
            config(preset, tmp_path / "s", "learning_rate=1e-4:1e-2", sampler="grid"),
            Console(quiet=True),
        )


def test_a_trial_behind_the_others_is_pruned(tmp_path: Path) -> None:
    study = optuna.create_study(
        direction="maximize", pruner=optuna.pruners.MedianPruner(n_startup_trials=2)
    )
    for final in (100.0, 120.0):
        trial = study.ask()
        trial.report(final, 200)
        study.tell(trial, final)

    def is_pruned(mean_return: float) -> bool:
        record = EvaluationRecord(
            steps=200,
            episodes=1,
            mean_return=mean_return,
            mean_length=1.0,
            mean_start_q=0.0,
            mean_start_return=0.0,
        )
        (tmp_path / EVALUATIONS_FILE).write_text(record.model_dump_json() + "\n")
        behind = study.ask()
        evaluations = _Evaluations(behind, tmp_path)
        assert evaluations.report()
        assert not evaluations.report()
        return behind.should_prune()

    assert is_pruned(90.0)
    assert not is_pruned(130.0)


def test_importances_add_up_and_make_a_picture(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize")
    for rate in range(10):
        for size in (1, 2):
            trial = optuna.trial.create_trial(
                params={"rate": rate, "size": size},
                distributions={
                    "rate": optuna.distributions.IntDistribution(0, 9),
                    "size": optuna.distributions.IntDistribution(1, 2),
                },
                value=10.0 * rate + size,
            )
            study.add_trial(trial)
    shares = importances(study)
    assert shares["rate"] > 0.9
    draw_importances(shares, tmp_path / "shares.png")
    assert (tmp_path / "shares.png").read_bytes().startswith(PNG)
