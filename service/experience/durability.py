"""When Redis has on disk what it was sent.

An answer to XADD says that Redis has a record in memory: with `appendfsync everysec` a crash takes
back the last second, and up to two where the disk is slow.
"""

from typing import Any, Final

import redis
import structlog

from contract.streams import PRODUCERS_KEY

_FSYNC_SECONDS: Final = 2.0
"""What `everysec` may be behind by, in the worst case that Redis allows."""
_WAIT_MILLISECONDS: Final = 2500
_TOGETHER_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


class RedisRestartedError(redis.ConnectionError):
    """Another process answers than the one that was sent the records."""


class Durability:
    """Asks one Redis, over the connection that the records go through."""

    def __init__(self, client: "redis.Redis", producer: str) -> None:
        self._client = client
        self._producer = producer
        self._run_id: str | None = None
        self._has_waitaof = True
        self._has_warned = False

    def begin(self) -> None:
        """Note who is going to be sent records.

        Raises:
            redis.RedisError: Redis is away.
        """
        self._run_id = str(self._ask_info("server")["run_id"])

    def is_due(self, waited_seconds: float, *, is_idle: bool) -> bool:
        """Whether to ask now, so long after the records were sent.

        To ask costs a wait for the next fsync, so that those who send do not ask all the time.
        """
        if not self._has_waitaof:
            return waited_seconds >= _FSYNC_SECONDS
        return is_idle or waited_seconds >= _TOGETHER_SECONDS

    def confirms(self, sequence: int) -> bool:
        """Whether all that was sent up to `sequence` is on disk; asked once it is due.

        Raises:
            RedisRestartedError: It may be gone, and is to be sent again.
            redis.RedisError: Redis is away.
        """
        # A write of this connection's own: WAITAOF speaks of nothing else, and a connection that
        # was made anew in silence has written nothing yet.
        self._client.hset(PRODUCERS_KEY, self._producer, str(sequence))
        is_durable = self._is_synced()
        if str(self._ask_info("server")["run_id"]) != self._run_id:
            raise RedisRestartedError("redis was restarted")
        return is_durable

    def _is_synced(self) -> bool:
        if self._has_waitaof:
            try:
                synced: Any = self._client.waitaof(1, 0, _WAIT_MILLISECONDS)
                return bool(synced[0] >= 1)
            except redis.ResponseError:
                # Before 7.2 there is no such command; and without an AOF it is refused.
                self._has_waitaof = not self._has_aof()
                return self._has_waitaof
        return bool(self._ask_info("persistence").get("aof_last_write_status") == "ok")

    def _has_aof(self) -> bool:
        is_on = bool(self._ask_info("persistence").get("aof_enabled"))
        if not is_on and not self._has_warned:
            _log.warning("redis_keeps_nothing", why="appendonly is off: a restart loses records")
            self._has_warned = True
        return is_on

    def _ask_info(self, section: str) -> dict[str, Any]:
        answer: Any = self._client.info(section)
        return dict(answer)
