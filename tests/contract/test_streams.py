from collections import Counter

import pytest

from contract.streams import NUM_PARTITIONS, partition_of, records_key


@pytest.mark.parametrize(
    ("name", "partition"), [("", 5), ("episode-1", 9), ("0190a5b4-7c1d-7000-8000-0/3", 3)]
)
def test_partition_of_a_name_never_changes(name: str, partition: int) -> None:
    assert partition_of(name) == partition


def test_partitions_fill_evenly() -> None:
    filled = Counter(partition_of(f"episode-{number}") for number in range(16_000))
    assert set(filled) == set(range(NUM_PARTITIONS))
    assert max(filled.values()) < 1150


def test_all_keys_of_a_partition_hash_to_one_cluster_slot() -> None:
    assert records_key("cartpole", 7) == "dqn:{cartpole:7}:records"
