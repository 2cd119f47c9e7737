"""`dqn retrain`: cycles beside a live service, at idle priority and within a bound of memory."""

import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from prometheus_client import start_http_server
from pydantic import ValidationError
from pydantic_settings import CliApp

from contract.bundle import BundleError
from contract.join import JoinRules
from dqn_client import Client, ClientError
from recorder.dataset.build import build
from recorder.dataset.manifest import DatasetBusyError, DatasetError
from recorder.dataset.store import DatasetStore
from recorder.settings import RecorderSettings, SettingsError
from recorder.shards import ShardError
from retraining.config import RetrainConfig
from retraining.cycle import Cycle
from retraining.metrics import RetrainingMetrics
from retraining.state import CycleError, HeldError

_LOOK_SECONDS = 30.0
_BUSY_SECONDS = 600.0
_LOOK_AGAIN_SECONDS = 1.0
_AUTOGROUP = Path("/proc/self/autogroup")
"""Niceness of the session, on kernels that have it."""
_FOR_NOW = (BundleError, ClientError, CycleError, DatasetError, ShardError, OSError)
"""What a later try may not meet: the cycle stays where it was."""


def main(arguments: Sequence[str]) -> int:
    """Run the verb; the exit status."""
    try:
        config = CliApp.run(RetrainConfig, cli_args=list(arguments))
        settings = RecorderSettings.load()
        key = None if config.key_file is None else config.key_file.read_text("utf-8").strip()
    except (ValidationError, SettingsError, ValueError, OSError) as error:
        print(f"dqn retrain: {error}", file=sys.stderr)
        return 2
    if not config.once and config.every is None:
        print("dqn retrain: expected --once or --every", file=sys.stderr)
        return 2
    stand_back(config.memory_bytes)
    metrics = RetrainingMetrics(config.policy)
    if config.metrics_port is not None:
        start_http_server(config.metrics_port, config.metrics_host, metrics.registry)

    def refresh() -> None:
        build_when_free(config, settings.join_rules)

    with Client(config.server, key, timeout_seconds=120.0) as client:
        cycle = Cycle(config, client, time.time, time.sleep, print, metrics.show_stage)
        status = run_once(cycle, metrics, refresh)
        while config.every is not None and not config.once:
            wait(cycle, config.every)
            status = run_once(cycle, metrics, refresh)
    return status


def build_when_free(config: RetrainConfig, rules: JoinRules) -> None:
    """Build what was sealed, once the recorder that builds it every hour is done.

    Raises:
        ShardError: A shard is damaged.
        DatasetError: The dataset is, or another process has written it for too long.
    """
    shards, store = config.data / "shards", DatasetStore(config.dataset_root)
    if not shards.exists():
        return
    until = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            build(shards, store, config.policy, time.time(), rules)
        except DatasetBusyError:
            if time.monotonic() > until:
                raise
            time.sleep(_LOOK_AGAIN_SECONDS)
        else:
            return


def run_once(cycle: Cycle, metrics: RetrainingMetrics, refresh: Callable[[], None]) -> int:
    """Build what was sealed and run one cycle; 1 where it could not go on for now."""
    try:
        refresh()
        state = cycle.run()
    except HeldError as error:
        print(error)
        return 0
    except _FOR_NOW as error:
        print(f"dqn retrain: {error}", file=sys.stderr)
        metrics.show_failure()
        return 1
    finally:
        metrics.show_stage("done")
    if state is not None:
        metrics.show_end(state)
        print(f"{state.cycle_id}: {state.outcome}: {state.sentence}")
    return 0


def wait(cycle: Cycle, seconds: float) -> None:
    """Until it is time, or somebody asks for a cycle."""
    until = time.monotonic() + seconds
    while (remaining := until - time.monotonic()) > 0:
        time.sleep(min(remaining, _LOOK_SECONDS))
        # A service that is away for now asks for nothing.
        with suppress(ClientError, CycleError):
            if cycle.is_asked():
                return


def stand_back(memory_bytes: int) -> None:
    """Take only what a service beside this process leaves over."""
    os.nice(19)
    torch.set_num_threads(1)
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
        _lower_session()


def _lower_session() -> None:
    # Where the kernel groups processes by session, all of the above counts within one alone. What
    # else was started from somebody's shell is left as it is.
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            _AUTOGROUP.write_text("19")
