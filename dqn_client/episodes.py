"""Episode ids: version 7 UUIDs, whose first bits say when the episode began."""

import secrets
import time
from uuid import UUID


def new_episode_id(now: float | None = None) -> str:
    """A UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, then random bits.

    The service reads from it which share was in force when the episode began.
    """
    milliseconds = int((time.time() if now is None else now) * 1000)
    value = milliseconds << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    return str(UUID(int=value))
