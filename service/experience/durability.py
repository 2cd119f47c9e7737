"""When Redis has on disk what it was sent.

An answer to XADD says that Redis has a record in memory: with `appendfsync everysec` a crash takes
back the last second, and more where the disk is slow or the machine starves. WAITAOF alone does not
settle it: Valkey 9.1 answers at once while the fsync is still to come.
"""

from typing import Any, Final

import redis
import structlog

_FSYNC_SECONDS: Final = 1.1
"""What `everysec` leaves between two fsyncs, and a little."""
_LOOKS: Final = 3
_WAIT_MILLISECONDS: Final = 1500

_log = structlog.get_logger(__name__)


class Durability:
    """Asks one Redis, over the very connection that the records went through."""

    def __init__(self, client: "redis.Redis") -> None:
        self._client = client
        self._has_waitaof = True
        self._is_always = True
        self._has_warned = False
        self._asked_at = 0.0
        self._num_looks = 0

    def begin(self, now: float) -> None:
        """What has been sent by now is to be asked for; `now` on the monotonic clock, in seconds.

        What is sent from now on is not.
        """
        self._asked_at, self._num_looks = now, 0

    def is_due(self, now: float, *, is_idle: bool) -> bool:
        """Whether to ask now; where every answer is synced, as soon as there is time."""
        return (self._is_always and is_idle) or now - self._asked_at >= _FSYNC_SECONDS

    def is_reached(self, now: float) -> bool:
        """Whether all that was sent before `begin` is on disk; asked once it is due.

        Raises:
            redis.RedisError: Redis is away.
        """
        self._asked_at = now
        found: Any = self._client.info("persistence")
        if not found["aof_enabled"]:
            self._warn()
            return True
        self._is_always = self._syncs_always()
        is_synced = (
            found["aof_last_write_status"] == "ok"
            and found["aof_pending_bio_fsync"] == 0
            and found["aof_buffer_length"] == 0
            and self._waitaof()
        )
        # Looks are more than a second apart: after the first what was sent is written, before the
        # second its fsync is begun, at the third it is done.
        self._num_looks = self._num_looks + 1 if is_synced else 0
        return self._num_looks >= (1 if self._is_always else _LOOKS)

    def _waitaof(self) -> bool:
        """What the server itself says of its disk; true where it has no word for it."""
        if not self._has_waitaof:
            return True
        try:
            synced: Any = self._client.waitaof(1, 0, _WAIT_MILLISECONDS)
            return bool(synced[0] >= 1)
        except redis.ResponseError:
            # Before 7.2 there is no such command.
            self._has_waitaof = False
            return True

    def _syncs_always(self) -> bool:
        try:
            configured: Any = self._client.config_get("appendfsync")
            return bool(configured.get("appendfsync") == "always")
        except redis.ResponseError:
            # Not everybody may ask; then the slower way.
            return False

    def _warn(self) -> None:
        if not self._has_warned:
            _log.warning("redis_keeps_nothing", why="appendonly is off: a restart loses records")
            self._has_warned = True
