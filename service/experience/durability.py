"""When Redis has on disk what it was sent.

An answer to XADD says that Redis has a record in memory: with `appendfsync everysec` a crash takes
back the last second, and up to two where the disk is slow.
"""

from typing import Any, Final

import redis
import structlog

_FSYNC_SECONDS: Final = 2.0
"""What `everysec` may be behind by, in the worst case that Redis allows."""
_WAIT_MILLISECONDS: Final = 2500
_TOGETHER_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


class Durability:
    """Asks one Redis, over the very connection that the records went through."""

    def __init__(self, client: "redis.Redis") -> None:
        self._client = client
        self._has_waitaof = True
        self._has_warned = False

    def is_due(self, waited_seconds: float, *, is_idle: bool) -> bool:
        """Whether to ask now, so long after the records were sent.

        To ask costs a wait for the next fsync, so that those who send do not ask all the time.
        """
        if not self._has_waitaof:
            return waited_seconds >= _FSYNC_SECONDS
        return is_idle or waited_seconds >= _TOGETHER_SECONDS

    def is_reached(self) -> bool:
        """Whether all that was sent before it was due is on disk.

        Raises:
            redis.RedisError: Redis is away.
        """
        if self._has_waitaof:
            try:
                synced: Any = self._client.waitaof(1, 0, _WAIT_MILLISECONDS)
                return bool(synced[0] >= 1)
            except redis.ResponseError:
                # Before 7.2 there is no such command; and without an AOF it is refused.
                self._has_waitaof = False
                return not self._has_aof()
        return not self._has_aof() or self._ask()["aof_last_write_status"] == "ok"

    def _has_aof(self) -> bool:
        is_on = bool(self._ask()["aof_enabled"])
        if not is_on and not self._has_warned:
            _log.warning("redis_keeps_nothing", why="appendonly is off: a restart loses records")
            self._has_warned = True
        return is_on

    def _ask(self) -> dict[str, Any]:
        answer: Any = self._client.info("persistence")
        return dict(answer)
