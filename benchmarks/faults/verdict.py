"""What the shards hold against what was accepted."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from contract.records import DecisionBatch, Outcome, row_names
from recorder.audit import audit_shards
from recorder.shards import raw_folder, read_records, sealed_policies, shard_numbers, shard_path


class Verdict(NamedTuple):
    """The books of one run."""

    accepted: int
    lost: int
    """Accepted, and in no shard."""
    doubled: int
    """In the shards more than once, accepted or not."""
    sealed: int
    shards: int
    unsealed_numbers: int
    """Sequence numbers that no shard has: refused by a full disk after they were given out."""


def check(shards: Path, accepted: Iterable[str]) -> Verdict:
    """Read every record of every shard."""
    found: Counter[str] = Counter()
    num_shards = 0
    for policy in sealed_policies(shards):
        folder = raw_folder(shards, policy)
        for number in shard_numbers(folder):
            num_shards += 1
            for _, _, record in read_records(shard_path(folder, number)):
                match record:
                    case DecisionBatch():
                        found.update(row_names(record))
                    case Outcome():
                        found[str(record.episode_id)] += 1
                    case _:
                        found[record.transition_id] += 1
    names = set(accepted)
    audit = audit_shards(shards)
    repeated = sum(times - 1 for times in found.values())
    return Verdict(
        accepted=len(names),
        lost=sum(found[name] == 0 for name in names),
        doubled=max(repeated, sum(each.doubled for each in audit.producers)),
        sealed=found.total(),
        shards=num_shards,
        unsealed_numbers=sum(
            last - first + 1 for each in audit.producers for first, last in each.gaps
        ),
    )
