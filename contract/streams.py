"""Every Redis key, and which stream an episode's records go to."""

from hashlib import blake2b

NUM_PARTITIONS = 16


def partition_of(name: str) -> int:
    """The partition of an episode id (else of a decision or transition id), in [0, 16)."""
    return int.from_bytes(blake2b(name.encode(), digest_size=4).digest()) % NUM_PARTITIONS


def records_key(policy: str, partition: int) -> str:
    """The stream of raw records. The braces keep a partition's keys on one cluster node."""
    return f"dqn:{{{policy}:{partition}}}:records"
