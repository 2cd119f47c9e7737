"""Every Redis key, and which stream an episode's records go to.

A record's stream is found from its own words alone, so that no replica has to ask: an outcome that
names only its decision may come through another partition than a decision that names its episode.
Partitions spread the work of sealing. Who joins reads what all of them sealed.
"""

from hashlib import blake2b
from typing import Final

NUM_PARTITIONS: Final = 16

POLICIES_KEY: Final = "dqn:policies"
"""Set of the policies that have streams; `` is that of records which name none."""
LEDGER_KEY: Final = "dqn:{ledger}:entries"
"""Stream of the ledger's entries over all policies; an entry's id is its position."""
REPLICAS_KEY: Final = "dqn:{ledger}:replicas"
"""Hash: replica to what it said of itself last."""


def partition_of(name: str) -> int:
    """The partition of an episode id (else of a decision or transition id), in [0, 16)."""
    return int.from_bytes(blake2b(name.encode(), digest_size=4).digest()) % NUM_PARTITIONS


def records_key(policy: str, partition: int) -> str:
    """The stream of raw records. The braces keep a partition's keys on one cluster node."""
    return f"dqn:{{{policy}:{partition}}}:records"


def lease_key(policy: str, partition: int) -> str:
    """Who reads a stream at present, as `<holder>:<fencing token>`; it expires."""
    return f"dqn:{{{policy}:{partition}}}:lease"


def fence_key(policy: str, partition: int) -> str:
    """The last fencing token that was given out for a stream."""
    return f"dqn:{{{policy}:{partition}}}:fence"
