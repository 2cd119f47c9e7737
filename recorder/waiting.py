"""Whether Redis still holds records of a producer that no shard has.

A shard says of each producer how far it goes, so that what is sealed out of order is taken for a
repeat: what the spool was rid of, because Redis had it, is sealed before what the spool still has.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import redis

from contract.streams import NUM_PARTITIONS, POLICIES_KEY, records_key

_PAGE_ENTRIES = 1000
_TIMEOUT_SECONDS = 10.0


class WaitingError(Exception):
    """A recorder has to seal what streams hold first."""


def check_streams(url: str, last: Mapping[str, int]) -> None:
    """Make sure that no stream holds a record of these producers up to their last numbers.

    Args:
        url: Of the Redis.
        last: Producer to the highest sequence number that matters.

    Raises:
        WaitingError: One does, or Redis is away.
    """
    client = redis.Redis.from_url(
        url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS
    )
    try:
        waiting = sum(number <= last.get(producer, -1) for producer, number in _entries_of(client))
    except redis.RedisError as error:
        raise WaitingError(f"whether Redis holds records of it is not known: {error}") from error
    finally:
        client.close()
    if waiting:
        raise WaitingError(
            f"{waiting} records of it wait in Redis, expected none: they would be taken for "
            "repeats; start a recorder (dqn record) and try again once it has sealed them"
        )


def _entries_of(client: "redis.Redis") -> Iterator[tuple[str, int]]:
    """Producer and sequence number of all entries of all streams."""
    policies: Any = client.smembers(POLICIES_KEY)
    for policy in sorted(each.decode() for each in policies):
        for partition in range(NUM_PARTITIONS):
            key, after = records_key(policy, partition), "-"
            while page := _page(client, key, after):
                for _, fields in page:
                    # Damaged entries name no producer, and are nobody's.
                    if b"producer" in fields and fields.get(b"sequence", b"").isdigit():
                        yield fields[b"producer"].decode(), int(fields[b"sequence"])
                after = f"({page[-1][0].decode()}"


def _page(client: "redis.Redis", key: str, after: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
    found: Any = client.xrange(key, after, count=_PAGE_ENTRIES)
    return list(found)
