"""Online training: rounds, evaluations, checkpoints and logs until the goal or the end."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Literal, NamedTuple

import numpy as np
from rich.console import Console

from training.checkpoint import (
    BEST,
    LAST,
    RunState,
    read_checkpoint,
    read_state,
    write_checkpoint,
)
from training.config import TrainingConfig
from training.episode_log import EpisodeLog, EpisodeRecord, EvaluationRecord
from training.evaluate import EvaluationResult
from training.mistakes import find_mistakes
from training.progress import TrainingProgress
from training.run import TrainingRun, has_crossed
from training.tracker import EndedEpisode

StopReason = Literal["target", "total_steps", "interrupted"]


class TrainingSummary(NamedTuple):
    """How a run ended."""

    stopped_by: StopReason
    steps: int
    best_return: float | None
    """Mean evaluation return of `best`; `None` if there was no evaluation."""

    best: Path
    """Folder of the best checkpoint."""


def train(
    config: TrainingConfig, console: Console, should_stop: Callable[[], bool] = lambda: False
) -> TrainingSummary:
    """Train from the start.

    Args:
        config: The whole of what the run is.
        console: Where progress is shown.
        should_stop: Asked after every round; if true the run writes `last/` and ends.

    Raises:
        FileExistsError: The folder already holds a run.
        DivergenceError: Learning has gone wrong.
    """
    if (config.out / LAST).exists():
        raise FileExistsError(
            f"{config.out} already holds a run: go on with --resume {config.out}, or train into "
            "another folder"
        )
    return _Session(TrainingRun(config), console, saved=None).train(should_stop)


def resume(
    out: Path, console: Console, should_stop: Callable[[], bool] = lambda: False
) -> TrainingSummary:
    """Go on with the run in `out` from its `last/` checkpoint, as if it had never stopped.

    Raises:
        CheckpointError: There is nothing to go on from.
        DivergenceError: Learning has gone wrong.
    """
    metadata = read_checkpoint(out / LAST).metadata
    # The folder may have been moved since.
    config = TrainingConfig.model_validate(metadata.config | {"out": out})
    state = read_state(out / LAST)
    run = TrainingRun(config)
    run.restore(state)
    return _Session(run, console, saved=state).train(should_stop)


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Give a predicate that turns true on Ctrl-C or SIGTERM; a second one kills as usual."""
    stopped = threading.Event()
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()
        signal.signal(number, previous[signal.Signals(number)])

    for number in previous:
        signal.signal(number, stop)
    try:
        yield stopped.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Session:
    """A run together with its folder and its audience."""

    def __init__(self, run: TrainingRun, console: Console, saved: RunState | None) -> None:
        self._run = run
        self._config = run.config
        values = {} if saved is None else saved.values
        self._best_return: float | None = values.get("best_return")
        # Runs of an earlier release kept the return alone.
        alone = None if self._best_return is None else (False, self._best_return)
        best = values.get("best", alone)
        self._best: tuple[bool, float] | None = None if best is None else tuple(best)
        """Whether it was confirmed to return enough, and by what it is the best of its kind."""
        self._log = EpisodeLog(
            self._config.out,
            tensorboard=self._config.tensorboard,
            positions=None if saved is None else saved.values["log_positions"],
        )
        self._progress = TrainingProgress(self._config.total_steps, console, run.steps)

    def train(self, should_stop: Callable[[], bool]) -> TrainingSummary:
        with closing(self._run), closing(self._log), closing(self._progress):
            for mistake in find_mistakes(self._config, self._run.environment.observation):
                self._progress.say(f"warning: {mistake}", style="yellow")
            stopped_by = self._advance_until_done(should_stop)
            self._write_last()
        return TrainingSummary(
            stopped_by, self._run.steps, self._best_return, self._config.out / BEST
        )

    def _advance_until_done(self, should_stop: Callable[[], bool]) -> StopReason:
        while not self._run.has_finished:
            if should_stop():
                return "interrupted"
            steps_before = self._run.steps
            self._report(self._run.advance())
            steps = self._run.steps
            if (
                has_crossed(self._config.evaluation_every_steps, steps_before, steps)
                or self._run.has_finished
            ) and self._evaluate():
                return "target"
            if has_crossed(self._config.checkpoint_every_steps, steps_before, steps):
                self._write_last()
        return "total_steps"

    def _report(self, ended_episodes: list[EndedEpisode]) -> None:
        run = self._run
        first = run.num_episodes - len(ended_episodes) + 1
        records = [
            EpisodeRecord(
                **episode._asdict(),
                episode=number,
                epsilon=run.epsilon,
                loss=run.loss,
                learning_rate=run.learning_rate,
            )
            for number, episode in enumerate(ended_episodes, start=first)
        ]
        for record in records:
            self._log.add_episode(record)
        self._progress.show(run.steps, records)

    def _evaluate(self) -> bool:
        """Evaluate, keep the checkpoint if it is the best so far, say whether the goal is met."""
        goal, calibration = self._config.target_return, self._config.target_calibration
        result = self._play(self._config.evaluation_episodes)
        is_goal_met, merit = False, (False, result.mean_return)
        if goal is not None and result.meets(goal, None):
            # A few lucky episodes are not a policy that holds, and say little of its Q-values.
            result = self._play(self._config.confirmation_episodes)
            is_goal_met, merit = result.meets(goal, calibration), (False, result.mean_return)
            if calibration is not None and result.meets(goal, None):
                # Of those that return enough the best is the one whose Q-values are the truest.
                merit = (True, -abs(result.promise_ratio - 1.0))
        if is_goal_met or self._best is None or merit >= self._best:
            self._best, self._best_return = merit, result.mean_return
            write_checkpoint(
                self._config.out / BEST,
                self._run.metadata(result.mean_return),
                self._run.learner.online_network,
            )
        return is_goal_met

    def _play(self, num_episodes: int) -> EvaluationResult:
        result = self._run.evaluate(num_episodes)
        record = EvaluationRecord(
            steps=self._run.steps,
            episodes=num_episodes,
            mean_return=result.mean_return,
            mean_length=float(np.mean(result.lengths)),
            mean_start_q=float(np.mean(result.start_q_values)),
            mean_start_return=float(np.mean(result.start_returns)),
        )
        self._log.add_evaluation(record)
        self._progress.show_evaluation(record)
        return result

    def _write_last(self) -> None:
        state = self._run.state()
        session_values = {
            "best_return": self._best_return,
            "best": self._best,
            "log_positions": self._log.positions(),
        }
        write_checkpoint(
            self._config.out / LAST,
            self._run.metadata(None),
            self._run.learner.online_network,
            RunState(state.tensors, state.values | session_values),
        )
