"""Sweeps: many runs of one preset with varied settings, the best found, resumable.

    dqn sweep --preset cartpole --out data/sweeps/mine --trials 20 \
        --vary learning_rate=1e-4:1e-2:log --vary batch_size=32/64/128

A study is a SQLite file in its folder: a sweep that was stopped goes on where it was, and several
processes may work on one study. Each trial trains in a folder of its own, and is pruned where its
evaluations fall behind those of the others (Akiba et al., 2019).
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import optuna
import torch
from pydantic import Field, PositiveInt, ValidationError
from pydantic_settings import CliApp
from rich.console import Console
from rich.table import Table

from training.config import TrainingConfig
from training.divergence import DivergenceError
from training.flags import Flags
from training.memory import keep_freed_memory
from training.monitors import EvaluationFile
from training.online import stop_on_signals, train
from training.preset import read_preset
from training.sweep_space import Choices, Range, Space, parse_space

STORAGE_FILE = "study.sqlite"
IMPORTANCE_PLOT = "importances.png"
_EXIT_MISUSED = 2
_SHOWN_TRIALS = 10


class SweepConfig(Flags):
    """Train a preset with varied settings and say which are best."""

    preset: str
    """The preset that every trial begins from."""

    out: Path
    """Folder of the study; a sweep into the folder of an earlier one goes on with it."""

    vary: list[str] = Field(min_length=1)
    """A setting and its values: `name=a/b/c` or `name=low:high` or `name=low:high:log`; repeat it
    for each setting."""

    trials: PositiveInt = 20
    """Trials in all, with those of earlier sweeps into the folder; a grid has its own number."""

    sampler: Literal["tpe", "grid"] = "tpe"
    """Bayesian by tree-structured Parzen estimators (Bergstra et al., 2011), or every combination,
    which takes lists of values only."""

    prune: bool = True
    """Stop trials that are worse than the median of the others at the same step."""

    seed: int = Field(default=0, ge=0)
    """Of the sampler and of every trial's run."""

    total_steps: PositiveInt | None = None
    """Environment steps of each trial; the preset's if not given."""


def sweep(
    config: SweepConfig, console: Console, should_stop: Callable[[], bool] = lambda: False
) -> optuna.Study:
    """Run trials until there are as many as asked for, or until told to stop.

    Raises:
        ValueError: A setting or a value is none of a run's, or a grid is asked for a range.
    """
    space = parse_space(config.vary)
    config.out.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=f"sqlite:///{config.out / STORAGE_FILE}",
        study_name=config.preset,
        direction="maximize",
        load_if_exists=True,
        sampler=_sampler(config, space),
        pruner=optuna.pruners.MedianPruner() if config.prune else optuna.pruners.NopPruner(),
    )
    num_done = len(study.get_trials(states=_ENDED))
    num_trials = _grid_size(space) if config.sampler == "grid" else config.trials

    def run_trial(trial: optuna.Trial) -> float:
        settings = {name: _suggest(trial, name, values) for name, values in space.items()}
        return _train_trial(config, trial, settings, console, should_stop)

    study.optimize(
        run_trial,
        n_trials=max(0, num_trials - num_done),
        catch=(_InterruptedError,),
        callbacks=[lambda study, _: study.stop() if should_stop() else None],
    )
    return study


def importances(study: optuna.Study) -> dict[str, float]:
    """How much each setting explains of what sets the best trials apart, shares of 1.

    By PED-ANOVA (Watanabe et al., 2023). Empty where fewer than two trials with different returns
    are complete, or one setting alone varies.
    """
    complete = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    names = {name for trial in complete for name in trial.params}
    if len({trial.value for trial in complete}) < 2 or len(names) < 2:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def print_study(study: optuna.Study, console: Console) -> None:
    """The best trials, their settings and returns."""
    trials = [trial for trial in study.trials if trial.value is not None]
    trials.sort(key=lambda trial: trial.value or 0.0, reverse=True)
    names = sorted({name for trial in trials for name in trial.params})
    table = Table("trial", "mean return", *names, "state")
    for trial in trials[:_SHOWN_TRIALS]:
        settings = [f"{trial.params.get(name)}" for name in names]
        table.add_row(str(trial.number), f"{trial.value:.1f}", *settings, trial.state.name.lower())
    console.print(table)
    for name, share in importances(study).items():
        console.print(f"{name} explains {share:.0%} of what sets the best trials apart")


_ENDED = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)


class _InterruptedError(Exception):
    """The sweep was told to stop within a trial."""


class _Evaluations:
    """A trial's evaluations, told to the study as they come."""

    def __init__(self, trial: optuna.Trial, out: Path) -> None:
        self._trial = trial
        self._file = EvaluationFile(out)
        self._known: set[int] = set()

    def report(self) -> bool:
        """Tell the study of new ones; whether there were any."""
        records = self._file.read_if_new()
        for record in records or []:
            if record.steps not in self._known:
                self._known.add(record.steps)
                self._trial.report(record.mean_return, record.steps)
        return records is not None


def _train_trial(
    config: SweepConfig,
    trial: optuna.Trial,
    settings: dict[str, Any],
    console: Console,
    should_stop: Callable[[], bool],
) -> float:
    """Train one trial; its best evaluation's mean return."""
    out = config.out / f"trial-{trial.number}"
    run_config = _run_config(config, settings, out)
    evaluations = _Evaluations(trial, out)
    is_pruned = False

    def should_prune_or_stop() -> bool:
        nonlocal is_pruned
        is_pruned = evaluations.report() and trial.should_prune()
        return is_pruned or should_stop()

    try:
        summary = train(run_config, Console(quiet=True), should_prune_or_stop)
    except DivergenceError as error:
        console.print(f"trial {trial.number} diverged with {settings}: {error}")
        raise optuna.TrialPruned from error
    if summary.stopped_by == "interrupted" and not is_pruned:
        # It is the next trial of the sweep that goes on.
        trial.study.enqueue_trial(settings)
        raise _InterruptedError
    console.print(
        f"trial {trial.number}: best return {summary.best_return} after {summary.steps:,} steps "
        f"with {settings}{', pruned' if is_pruned else ''}"
    )
    if is_pruned or summary.best_return is None:
        raise optuna.TrialPruned
    return summary.best_return


def _run_config(config: SweepConfig, settings: dict[str, Any], out: Path) -> TrainingConfig:
    fields = read_preset(config.preset) | settings
    fields |= {"preset": config.preset, "out": out, "seed": config.seed}
    if config.total_steps is not None:
        fields["total_steps"] = config.total_steps
    return TrainingConfig(**fields)


def _suggest(trial: optuna.Trial, name: str, values: Range | Choices) -> Any:
    if isinstance(values, Choices):
        return trial.suggest_categorical(name, values.values)
    if values.is_integer:
        return trial.suggest_int(name, int(values.low), int(values.high), log=values.log)
    return trial.suggest_float(name, values.low, values.high, log=values.log)


def _sampler(config: SweepConfig, space: Space) -> optuna.samplers.BaseSampler:
    if config.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=config.seed)
    grid = {}
    for name, values in space.items():
        if isinstance(values, Range):
            raise ValueError(f"a grid needs a list of values for {name}, not a range")
        grid[name] = values.values
    return optuna.samplers.GridSampler(grid, seed=config.seed)


def _grid_size(space: Space) -> int:
    size = 1
    for values in space.values():
        size *= len(values.values) if isinstance(values, Choices) else 1
    return size


def main(arguments: Sequence[str]) -> int:
    """Run `dqn sweep`. Returns the exit status."""
    from training.pictures import draw_importances

    torch.set_num_threads(1)
    keep_freed_memory()
    console = Console(markup=False, highlight=False, soft_wrap=True)
    try:
        config = CliApp.run(SweepConfig, cli_args=list(arguments))
        with stop_on_signals() as should_stop:
            study = sweep(config, console, should_stop)
    except (ValidationError, ValueError) as error:
        Console(stderr=True, markup=False, highlight=False).print(f"error: {error}", style="red")
        return _EXIT_MISUSED
    print_study(study, console)
    shares = importances(study)
    if shares:
        draw_importances(shares, config.out / IMPORTANCE_PLOT)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
