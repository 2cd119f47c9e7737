"""Entries to seal, made from small real records."""

from pathlib import Path

from contract.records import Outcome, decode_record, encode_record
from recorder.shard_log import Sealable
from recorder.shards import Entry, read_entries, shard_numbers, shard_path
from tests import builders


def sealable(
    sequence: int,
    *,
    producer: str = "worker",
    partition: int | None = None,
    episode_id: str | None = None,
) -> Sealable:
    """An outcome whose reward is its sequence number."""
    name = {"decision_id": "d"} if episode_id is None else {"episode_id": episode_id, "step": 0}
    record = builders.outcome(float(sequence), time=1000.0 + sequence, **name)
    return Sealable(
        Entry(producer, partition, sequence, encode_record(record)), record.time, "schema"
    )


def sealed_entries(folder: Path) -> list[Entry]:
    """All entries of a folder of shards, in the order of the shards."""
    return [
        entry
        for number in shard_numbers(folder)
        for entry in read_entries(shard_path(folder, number))
    ]


def sealed_rewards(folder: Path) -> list[float]:
    """Of all outcomes in a folder of shards."""
    records = [decode_record(entry.content) for entry in sealed_entries(folder)]
    return [record.reward for record in records if isinstance(record, Outcome)]
