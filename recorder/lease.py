"""Leases of streams: one reader each, and a token that tells a stale one.

A lease spares two recorders the same work. That nothing is doubled does not hang on it: shards are
numbered, and a stale holder finds the number taken (see `recorder.shards`). What it cannot do
either is trim.
"""

from dataclasses import dataclass
from typing import Any, Final

import redis

from contract.streams import fence_key, lease_key, records_key

_ACQUIRE: Final = """
local held = redis.call('GET', KEYS[1])
if held then
  if string.sub(held, 1, #ARGV[1] + 1) ~= ARGV[1] .. ':' then return false end
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return held
end
held = ARGV[1] .. ':' .. redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], held, 'PX', ARGV[2])
return held
"""
_TRIM: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
return redis.call('XTRIM', KEYS[2], 'MINID', ARGV[2])
"""
_RELEASE: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


@dataclass(frozen=True)
class Lease:
    """The right to read and trim one stream."""

    policy: str
    partition: int
    value: str
    """`<holder>:<fencing token>`: another holder, or this one later, has another."""


class Leases:
    """Takes, uses and gives back leases in the name of one holder."""

    def __init__(self, client: "redis.Redis", holder: str, lease_seconds: float) -> None:
        self._holder = holder
        self._milliseconds = round(lease_seconds * 1000)
        self._acquire: Any = client.register_script(_ACQUIRE)
        self._trim: Any = client.register_script(_TRIM)
        self._release: Any = client.register_script(_RELEASE)

    def acquire(self, policy: str, partition: int) -> Lease | None:
        """Take or renew; None while somebody else holds it.

        Raises:
            redis.RedisError: Redis is away.
        """
        keys = [lease_key(policy, partition), fence_key(policy, partition)]
        value = self._acquire(keys=keys, args=[self._holder, self._milliseconds])
        return None if value is None else Lease(policy, partition, value.decode())

    def trim(self, lease: Lease, min_id: str) -> bool:
        """Remove the entries of a stream below an id; False where the lease is lost.

        Raises:
            redis.RedisError: Redis is away.
        """
        keys = [
            lease_key(lease.policy, lease.partition),
            records_key(lease.policy, lease.partition),
        ]
        removed = self._trim(keys=keys, args=[lease.value, min_id])
        return bool(removed >= 0)

    def release(self, lease: Lease) -> None:
        """Let the next holder in without waiting for the lease to expire.

        Raises:
            redis.RedisError: Redis is away.
        """
        self._release(keys=[lease_key(lease.policy, lease.partition)], args=[lease.value])
