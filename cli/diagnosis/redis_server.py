"""Redis: whether what it takes survives it, and whether its clock is ours."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import redis

from cli.diagnosis.finding import Finding, fault, ok, warning

_TIMEOUT_SECONDS: Final = 2.0
_MOST_SKEW_SECONDS: Final = 1.0
_OLDEST: Final = (6, 2)
"""Streams are trimmed by id and pending entries claimed in one call."""


def check_redis(url: str) -> Iterator[Finding]:
    """Ask a Redis for its settings.

    Args:
        url: With its password, which no finding repeats.
    """
    client = redis.Redis.from_url(
        url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS
    )
    try:
        info: Mapping[str, Any] = client.info()
        before = time.time()
        seconds, microseconds = client.time()
        skew = seconds + microseconds / 1e6 - (before + time.time()) / 2
        fsync = _fsync(client)
    except (redis.RedisError, OSError, ValueError) as error:
        yield fault(
            "redis",
            f"does not answer: {error}",
            "the spool keeps what is accepted until it does: look at redis_url, the network policy "
            "and the password",
        )
        return
    finally:
        client.close()
    yield from judge_info(info, fsync)
    yield judge_skew(skew)


def judge_info(info: Mapping[str, Any], fsync: str | None) -> Iterator[Finding]:
    """What a Redis says of itself.

    Args:
        info: Its INFO.
        fsync: Its `appendfsync`; None where CONFIG is not allowed, as managed ones have it.
    """
    version = str(info.get("redis_version", "0"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < _OLDEST:
        yield fault("redis", f"version {version}", "6.2 or newer is needed")
    elif info.get("role", "master") != "master":
        yield fault(
            "redis", "is a replica", "point redis_url at the primary: a replica is read-only"
        )
    else:
        yield ok("redis", f"version {version} answers")
    policy = info.get("maxmemory_policy")
    if policy != "noeviction":
        yield fault(
            "redis memory",
            f"maxmemory-policy {policy}",
            "records would be forgotten without a word: CONFIG SET maxmemory-policy noeviction; a "
            "full Redis then refuses, and the spool keeps them",
        )
    elif not info.get("maxmemory"):
        yield warning(
            "redis memory",
            "noeviction, without a limit",
            "a stream that nobody reads takes the whole machine: CONFIG SET maxmemory 1gb or so",
        )
    else:
        yield ok("redis memory", f"noeviction at {info['maxmemory'] / 2**20:.0f} MiB")
    yield _judge_durability(info, fsync)


def judge_skew(seconds: float) -> Finding:
    """How far Redis's clock is ahead of ours."""
    if abs(seconds) > _MOST_SKEW_SECONDS:
        return warning(
            "redis clock",
            f"{seconds:+.1f} s beside ours",
            "replicas would disagree about which share is in force: run chrony on both hosts",
        )
    return ok("redis clock", f"{seconds:+.3f} s beside ours")


def _judge_durability(info: Mapping[str, Any], fsync: str | None) -> Finding:
    if not info.get("aof_enabled"):
        return fault(
            "redis durability",
            "appendonly no",
            "what it acknowledged is gone when it restarts: CONFIG SET appendonly yes, and in its "
            "configuration file",
        )
    if info.get("aof_last_write_status", "ok") != "ok":
        return fault("redis durability", "its last write failed", "look at its disk and its log")
    if fsync is None:
        return warning(
            "redis durability",
            "append-only; appendfsync cannot be asked",
            "see in the provider's console that it is everysec or always",
        )
    if fsync == "no":
        return fault(
            "redis durability", "appendfsync no", "CONFIG SET appendfsync everysec, or always"
        )
    return ok("redis durability", f"append-only, appendfsync {fsync}")


def _fsync(client: "redis.Redis") -> str | None:
    try:
        found: Mapping[str, str] = client.config_get("appendfsync")  # type: ignore[assignment]
    except redis.ResponseError:
        return None
    return found.get("appendfsync") or _decoded(found)


def _decoded(found: Mapping[Any, Any]) -> str | None:
    value = found.get(b"appendfsync")
    return value.decode() if isinstance(value, bytes) else None
