"""Datasets are built on now and then, in a process of their own: sealing does not wait for them."""

import os
import signal
import time
from multiprocessing import get_context
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Final

import structlog

from contract.join import JoinRules
from recorder.dataset.manifest import DatasetError
from recorder.dataset.store import DatasetStore
from recorder.dataset.upkeep import keep_up, remove_unread_shards
from recorder.settings import RecorderSettings
from recorder.shards import ShardError, sealed_policies

_FIRST_SECONDS: Final = 300.0
"""The first build comes so soon after the start, whatever the pause between two."""
_NICENESS: Final = 15
_STOP_SECONDS: Final = 5.0

_log = structlog.get_logger(__name__)


class Builds:
    """Owns the process that builds, and knows when the next one is due."""

    def __init__(self, settings: RecorderSettings, now: float) -> None:
        """`now` is on the monotonic clock, in seconds."""
        self._settings = settings
        self._due = now + min(settings.dataset_seconds, _FIRST_SECONDS)
        self._process: SpawnProcess | None = None
        self._limit = 0.0

    def look(self, now: float) -> None:
        """Begin the build that is due; say of one that ended whether it failed."""
        if self._process is not None:
            if self._process.is_alive():
                if now >= self._limit:
                    # It hangs, in a read of a network's file system say: the next one may not.
                    # Breaking off costs what has been read since the last part was sealed.
                    _log.error("datasets_not_built", seconds=self._settings.dataset_limit_seconds)
                    self._process.kill()
                return
            if self._process.exitcode != 0:
                _log.error("datasets_not_built", status=self._process.exitcode)
            self._process.close()
            self._process = None
        if self._settings.dataset_seconds == 0 or now < self._due:
            return
        self._due = now + self._settings.dataset_seconds
        self._limit = now + self._settings.dataset_limit_seconds
        settings = self._settings
        process = get_context("spawn").Process(
            target=build_all,
            args=(
                settings.data,
                settings.shards_folder,
                settings.dataset_root,
                settings.join_rules,
                settings.raw_days,
            ),
            daemon=True,
        )
        try:
            process.start()
        except OSError as error:
            _log.error("datasets_not_built", error=str(error))
        else:
            self._process = process

    def close(self) -> None:
        """Break off a build that runs: what it has sealed stays, the rest is built next time."""
        if self._process is not None and self._process.is_alive():
            self._process.terminate()
            self._process.join(_STOP_SECONDS)


def build_all(
    data: Path, shards: Path, datasets: str | Path, rules: JoinRules, raw_days: float
) -> None:
    """Build every policy's dataset on; one that fails is told of and keeps no other waiting."""
    os.nice(_NICENESS)
    # A terminal's interrupt is the recorder's to hear.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    store = DatasetStore(datasets)
    for policy in sealed_policies(shards):
        now = time.time()
        try:
            done = keep_up(data, shards, store, policy, now=now, raw_days=raw_days, rules=rules)
        except (DatasetError, ShardError, OSError) as error:
            _log.error("dataset_not_built", policy=policy, error=str(error))
            continue
        _log.info(
            "dataset_built",
            policy=policy,
            episodes=sum(part.num_episodes for part in done.build.parts),
            shards=done.build.num_shards,
            parts_expired=len(done.expired),
            shards_removed=done.num_shards_removed,
        )
    remove_unread_shards(shards, time.time(), raw_days)
