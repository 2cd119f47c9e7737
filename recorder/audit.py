"""Is anything missing from the shards, or there twice? Read from the shards themselves.

A producer numbers its records without gaps. A number that no shard has is a record that is not
sealed yet, that was refused after it had its number (a failing disk), or that is lost.
"""

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from recorder.shards import (
    DEAD_LETTERS,
    UNNAMED,
    ShardError,
    lane_of,
    raw_folder,
    read_entries,
    sealed_policies,
    shard_numbers,
    shard_path,
)
from recorder.sources import MALFORMED

_Numbers = npt.NDArray[np.int64]


class ProducerAudit(NamedTuple):
    """What the shards of all policies hold of one producer."""

    producer: str
    first: int
    last: int
    records: int
    """Sequence numbers that are there."""
    gaps: list[tuple[int, int]]
    """Runs of numbers that are not, first and last of each, between `first` and `last`."""
    doubled: int
    """Records that are there more than once."""


class Audit(NamedTuple):
    """What a look at every record of every shard found."""

    producers: list[ProducerAudit]
    damaged: list[str]
    """Why a shard cannot be read, one line each."""
    missing_shards: dict[str, list[int]]
    """Policy to the numbers of shards that are not there, between its oldest and its newest."""

    @property
    def is_clean(self) -> bool:
        """Nothing is missing, doubled or damaged."""
        faults = [bool(each.gaps or each.doubled) for each in self.producers]
        return not (any(faults) or self.damaged or self.missing_shards)


def audit_shards(shards: Path) -> Audit:
    """Look at every record of every policy: a producer numbers all that it writes in one row."""
    lanes: dict[str, dict[str, list[_Numbers]]] = defaultdict(lambda: defaultdict(list))
    damaged: list[str] = []
    missing: dict[str, list[int]] = {}
    for policy in (*sealed_policies(shards), UNNAMED, DEAD_LETTERS):
        folder = raw_folder(shards, policy)
        numbers = shard_numbers(folder)
        if numbers and (lacking := sorted({*range(numbers[0], numbers[-1])} - {*numbers})):
            missing[policy] = lacking
        for number in numbers:
            path = shard_path(folder, number)
            try:
                _add_sequences(path, lanes)
            except (OSError, ShardError) as error:
                damaged.append(f"{path}: {error}" if isinstance(error, OSError) else str(error))
    producers = [_audit_producer(name, found) for name, found in sorted(lanes.items())]
    return Audit(producers, damaged, missing)


def _add_sequences(path: Path, lanes: dict[str, dict[str, list[_Numbers]]]) -> None:
    found: dict[tuple[str, int | None], list[int]] = defaultdict(list)
    for entry in read_entries(path):
        found[entry.producer, entry.partition].append(entry.sequence)
    for (producer, partition), sequences in found.items():
        # What was put into a stream by hand has no numbers of a producer's.
        if producer != MALFORMED:
            lane = lane_of(producer, partition)
            lanes[producer][lane].append(np.asarray(sequences, dtype=np.int64))


def _audit_producer(producer: str, lanes: dict[str, list[_Numbers]]) -> ProducerAudit:
    by_lane = {lane: np.concatenate(arrays) for lane, arrays in lanes.items()}
    distinct = {lane: np.unique(numbers) for lane, numbers in by_lane.items()}
    doubled = sum(len(by_lane[lane]) - len(distinct[lane]) for lane in by_lane)
    # A record came whole from a spool, or in parts through streams: never both ways.
    parts = [numbers for lane, numbers in distinct.items() if lane != producer]
    if producer in distinct and parts:
        doubled += len(np.intersect1d(distinct[producer], np.concatenate(parts)))
    numbers = np.unique(np.concatenate(list(distinct.values())))
    ends = np.flatnonzero(np.diff(numbers) > 1)
    gaps = [(int(numbers[end]) + 1, int(numbers[end + 1]) - 1) for end in ends]
    return ProducerAudit(
        producer, int(numbers[0]), int(numbers[-1]), len(numbers), gaps, int(doubled)
    )
