"""Ray itself, with real processes that are really killed."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import ray
from rich.console import Console

from tests.training.apex.builders import apex_config
from training.apex.__main__ import ray_on_this_machine, train_apex
from training.apex.fleet import Worker
from training.apex.run import ApexRun
from training.checkpoint import read_checkpoint

pytestmark = [
    pytest.mark.slow,
    # Ray's own, of its own code.
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with ray_on_this_machine():
        yield


def advance(run: ApexRun, until: Callable[[], bool]) -> None:
    while not until():
        run.advance()


def kill(run: ApexRun, worker: Worker) -> None:
    """Kill a process the way the system does when memory is short."""
    pid = ray.get(run.fleet.handle(worker).__ray_call__.remote(lambda _: os.getpid()))
    os.kill(pid, signal.SIGKILL)


@pytest.mark.timeout(600)
def test_a_run_goes_on_after_an_actor_and_a_shard_were_killed(tmp_path: Path) -> None:
    with closing(ApexRun(apex_config(tmp_path, total_steps=100_000))) as run:
        advance(run, lambda: run.learner.num_updates >= 20)
        kill(run, Worker("actor", 0))
        advance(run, lambda: run.fleet.num_deaths["actor"] == 1)
        steps, updates = run.steps, run.learner.num_updates
        advance(run, lambda: run.steps > steps + 500 and run.learner.num_updates > updates + 20)

        kill(run, Worker("shard", 1))
        advance(run, lambda: run.fleet.num_deaths["shard"] == 1)
        lost = run.learner.num_updates
        advance(run, lambda: run.learner.num_updates > lost + 200)
        # The new shard has been filled and is drawn from again.
        draw = ray.get(run.fleet.handle(Worker("shard", 1)).draw.remote(4, 1.0, 1))
        assert draw is not None
        assert run.fleet.num_deaths == {"actor": 1, "shard": 1}


@pytest.mark.timeout(600)
def test_learner_and_actors_keep_the_ratio_and_leave_a_checkpoint(tmp_path: Path) -> None:
    config = apex_config(tmp_path)
    run = train_apex(config, Console(quiet=True))
    assert run.has_finished
    expected = (run.steps - config.learning_starts) / 4
    slack = 3 * config.rows_per_strip * config.num_actors / 4
    assert abs(run.learner.num_updates - expected) <= slack
    metadata = read_checkpoint(tmp_path / "best").metadata
    assert metadata.n_step == 3
    assert metadata.statistics.returns.count > 20
    assert (tmp_path / "evaluations.jsonl").read_text().count("\n") == 1
