"""`python -m training.apex`: train with many actors on Ray.

Takes the flags and presets of `dqn train`, and those that say how the run is spread. The folder it
writes is that of any run, but a run of Ape-X cannot be resumed: its replay is in other processes.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

import numpy as np
import ray
import torch
from pydantic import ValidationError
from rich.console import Console

from training.apex.config import ApexConfig
from training.apex.run import ApexRun
from training.checkpoint import BEST, write_checkpoint
from training.divergence import DivergenceError
from training.episode_log import EpisodeLog, EpisodeRecord, EvaluationRecord
from training.memory import keep_freed_memory
from training.monitors import check_evaluations
from training.online import stop_on_signals
from training.progress import TrainingProgress
from training.run import has_crossed
from training.tracker import EndedEpisode

_EXIT_MISUSED = 2
_EXIT_DIVERGED = 1
_EXIT_INTERRUPTED = 130


def train_apex(
    config: ApexConfig, console: Console, should_stop: Callable[[], bool] = lambda: False
) -> ApexRun:
    """Train to the end or until told to stop; the run, whose processes have ended.

    Raises:
        FileExistsError: The folder already holds a run.
        DivergenceError: Learning has gone wrong.
        RuntimeError: A process keeps dying.
    """
    if (config.out / BEST).exists():
        raise FileExistsError(f"{config.out} already holds a run: train into another folder")
    with (
        closing(ApexRun(config)) as run,
        closing(EpisodeLog(config.out, tensorboard=config.tensorboard, positions=None)) as log,
        closing(TrainingProgress(config.total_steps, console)) as progress,
    ):
        session = _Session(run, log, progress)
        while not (run.has_finished or should_stop()):
            session.advance()
        session.finish()
    return run


@contextmanager
def ray_on_this_machine() -> Iterator[None]:
    """Ray for as long as the context lasts, on this machine and its loopback alone."""
    ray.init(
        address="local",
        include_dashboard=False,
        logging_level=logging.WARNING,
        # Each process computes with one thread; there are as many processes as cores or more.
        runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
        _node_ip_address="127.0.0.1",
    )
    try:
        yield
    finally:
        ray.shutdown()


class _Session:
    """A run together with its folder and its audience."""

    def __init__(self, run: ApexRun, log: EpisodeLog, progress: TrainingProgress) -> None:
        self._run, self._log, self._progress = run, log, progress
        self._best_return = -np.inf
        self._evaluations: list[EvaluationRecord] = []

    def advance(self) -> None:
        """Go on for a moment; report, and evaluate when it is time."""
        run, config = self._run, self._run.config
        steps_before = run.steps
        ended_episodes = run.advance()
        if run.steps > steps_before:
            self._report(ended_episodes)
        if has_crossed(config.evaluation_every_steps, steps_before, run.steps):
            self.evaluate()

    def evaluate(self) -> None:
        """Evaluate, and keep the checkpoint if it is the best so far."""
        run = self._run
        result = run.evaluate(run.config.evaluation_episodes)
        record = EvaluationRecord(
            steps=run.steps,
            episodes=run.config.evaluation_episodes,
            mean_return=result.mean_return,
            mean_length=float(np.mean(result.lengths)),
            mean_start_q=float(np.mean(result.start_q_values)),
            mean_start_return=float(np.mean(result.start_returns)),
        )
        self._log.add_evaluation(record)
        self._progress.show_evaluation(record)
        self._evaluations.append(record)
        if result.mean_return >= self._best_return:
            self._best_return = result.mean_return
            write_checkpoint(
                run.config.out / BEST,
                run.metadata(result.mean_return),
                run.learner.online_network,
            )
        check_evaluations(self._evaluations)

    def finish(self) -> None:
        """Evaluate what the last steps have come to."""
        if not self._evaluations or self._evaluations[-1].steps < self._run.steps:
            self.evaluate()

    def _report(self, ended_episodes: list[EndedEpisode]) -> None:
        run = self._run
        first = run.num_episodes - len(ended_episodes) + 1
        records = [
            EpisodeRecord(
                **episode._asdict(),
                episode=number,
                epsilon=run.config.actor_epsilon,
                loss=run.loss,
                learning_rate=run.config.learning_rate,
            )
            for number, episode in enumerate(ended_episodes, start=first)
        ]
        for record in records:
            self._log.add_episode(record)
        self._progress.show(run.steps, records)


def main(arguments: Sequence[str]) -> int:
    """Train as the flags say; see `ApexConfig`. Returns the exit status."""
    console = Console(markup=False, highlight=False)
    errors = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    keep_freed_memory()
    try:
        config = ApexConfig.from_arguments(arguments)
        torch.set_num_threads(config.threads)
        with ray_on_this_machine(), stop_on_signals() as should_stop:
            run = train_apex(config, console, should_stop)
    except (ValidationError, ValueError, FileExistsError) as error:
        errors.print(f"error: {error}", style="red")
        return _EXIT_MISUSED
    except (DivergenceError, RuntimeError) as error:
        errors.print(f"stopped: {error}", style="red")
        return _EXIT_DIVERGED
    console.print(
        f"{run.steps:,} steps, {run.learner.num_updates:,} updates, {run.fleet.num_deaths} "
        f"processes died; the best checkpoint is in {config.out / BEST}",
        soft_wrap=True,
    )
    return 0 if run.has_finished else _EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
