"""The recorder's loop: seal what has come, look at it, wait."""

import fcntl
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from uuid import uuid4

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from contract.files import make_directory
from recorder.building import Builds
from recorder.metrics import RecorderMetrics
from recorder.observe import Consumer, Observer
from recorder.seal import Sealer
from recorder.settings import RecorderSettings
from recorder.shards import DEAD_LETTERS, ShardError, ShardManifest
from recorder.sources import Spools, Streams
from recorder.watchdog import Watchdog

LOCK_FILE: Final = "recorder.lock"
_OBSERVER_LOCK_FILE: Final = "observer.lock"
_TIMEOUT_SECONDS: Final = 10.0

_log = structlog.get_logger(__name__)


class AlreadyRecordedError(Exception):
    """Another recorder reads the same spools."""


class Recorder:
    """Owns the sources, the shards' end and the join of one process."""

    def __init__(
        self,
        settings: RecorderSettings,
        metrics: RecorderMetrics,
        make_consumers: Callable[[], Sequence[Consumer]],
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._make_consumers = make_consumers
        self._name = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
        self._shards = settings.shards_folder
        make_directory(self._shards)
        url = settings.read_redis_url()
        self._sources: Spools | Streams
        if url is None:
            self._lock = _lock(settings.data / "run" / LOCK_FILE)
            if self._lock is None:
                raise AlreadyRecordedError(f"{settings.spools} is read by another recorder")
            self._sources = Spools(settings.spools)
        else:
            self._sources = Streams(url, self._name, settings.lease_seconds)
        self._sealer = Sealer(
            self._shards, self._sources, settings.shard_max_bytes, self._name, self._on_sealed
        )
        self._observer_lock: int | None = None
        self._observer: Observer | None = None
        self._builds = Builds(settings, time.monotonic())
        self._watchdog = Watchdog(settings.hang_seconds)

    def run(self, wait: Callable[[float], bool]) -> None:
        """Work until `wait`, which is given seconds, says to stop; then seal what is left."""
        is_stopping = False
        while not is_stopping:
            began = time.monotonic()
            is_behind = self.make_pass()
            pause = self._settings.seal_seconds - (time.monotonic() - began)
            is_stopping = wait(0.0 if is_behind else max(0.0, pause))
        while self.make_pass():
            pass
        self._builds.close()
        try:
            self._sources.close()
        except redis.RedisError as error:
            _log.warning("leases_left", error=str(error))

    def make_pass(self) -> bool:
        """Seal what waits, and tell of it; what fails is logged and tried at the next pass.

        However much comes, it is told of after `seal_seconds`: who judges waits for it. True where
        more waits to be sealed. A pass that hangs ends the process.
        """
        self._watchdog.turn()
        try:
            return self._pass()
        finally:
            self._watchdog.rest()

    def _pass(self) -> bool:
        until = time.monotonic() + self._settings.seal_seconds
        try:
            is_behind = self._sealer.seal(time.time()).is_full
            while is_behind and time.monotonic() < until:
                is_behind = self._sealer.seal(time.time()).is_full
            self._metrics.redis_up.set(isinstance(self._sources, Streams))
            self._metrics.stream_pending.set(self._sources.num_pending())
        except (OSError, redis.RedisError) as error:
            _log.warning("not_sealed", error=str(error))
            self._metrics.redis_up.set(0)
            return False
        if self._observe():
            self._metrics.last_pass.set_to_current_time()
        if self._observer_lock is not None:
            # Of several recorders one builds.
            self._builds.look(time.monotonic())
        return is_behind

    def _observe(self) -> bool:
        """Follow the shards, where no other recorder does; False where that failed."""
        if self._observer_lock is None:
            self._observer_lock = _lock(self._shards / _OBSERVER_LOCK_FILE)
        if self._observer_lock is None:
            return True
        try:
            if self._observer is None:
                self._observer = Observer(
                    self._shards,
                    self._settings.join_rules,
                    self._make_consumers(),
                    self._watchdog.turn,
                )
            self._observer.follow(time.time())
        except (OSError, ShardError) as error:
            _log.error("not_observed", error=str(error))
            self._observer = None
            return False
        except Exception:  # noqa: BLE001
            # A slip in a consumer must not stop the sealing; all it knew is built anew.
            _log.exception("not_observed")
            self._observer = None
            return False
        return True

    def _on_sealed(self, manifest: ShardManifest) -> None:
        self._watchdog.turn()
        self._metrics.shards.inc()
        if manifest.policy == DEAD_LETTERS:
            self._metrics.dead_letters.inc(manifest.records)
            _log.error("dead_letters", number=manifest.number, records=manifest.records)
        else:
            self._metrics.records.labels("sealed").inc(manifest.records)


def connect(url: str) -> "redis.Redis":
    """A client without retries of its own: each pass is one."""
    return redis.Redis.from_url(
        url,
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


def _lock(path: Path) -> int | None:
    """Lock a file for as long as the process lives; None where another holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor
    except BlockingIOError:
        os.close(descriptor)
        return None
