"""Raw records to immutable shards, each exactly once.

Nothing else trims a source that is read here, and it is trimmed only of what is sealed. Sources
give records at least once. The shards say what they hold already, so that dying at any moment
between reading, sealing and trimming costs a repeat that is recognised.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import msgspec

from contract.records import DecisionBatch, Outcome, Record, TransitionRecord, decode_record
from recorder.shard_log import Sealable, ShardLog
from recorder.shards import DEAD_LETTERS, UNNAMED, Entry, ShardManifest
from recorder.sources import Source

POLICY_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_LEAST_SHARE_BYTES: Final = 256 * 1024


class Sources(Protocol):
    """Finds what there is to seal."""

    def find(self) -> list[Source]:
        """All sources, new ones included."""


class Pass(NamedTuple):
    """What one pass over all sources did."""

    records: int
    """Read, repeats included."""
    is_full: bool
    """A source gave as much as was asked for: there is more to seal at once."""


class Sealer:
    """Owns the shards' logs. One pass after another, in one thread."""

    def __init__(
        self,
        shards: Path,
        sources: Sources,
        shard_max_bytes: int,
        name: str,
        on_sealed: Callable[[ShardManifest], None] = lambda _: None,
    ) -> None:
        self._shards = shards
        self._sources = sources
        self._max_bytes = shard_max_bytes
        self._name = name
        self._on_sealed = on_sealed
        self._logs: dict[str, ShardLog] = {}

    def seal(self, now: float) -> Pass:
        """One pass over all sources.

        At most one shard a policy is written, of about `shard_max_bytes` of records.

        Raises:
            OSError: Nothing of what failed was trimmed; the next pass reads it again.
            redis.RedisError: Likewise.
        """
        sources = self._sources.find()
        share_bytes = max(self._max_bytes // max(len(sources), 1), _LEAST_SHARE_BYTES)
        taken: list[tuple[Source, list[Entry]]] = []
        try:
            for source in sources:
                taken.append((source, source.read(share_bytes)))
            read = [entry for _, entries in taken for entry in entries]
            for policy, sealables in sorted(group_by_policy(read).items()):
                manifest = self._log_of(policy).append(sealables, now, self._name)
                if manifest is not None:
                    self._on_sealed(manifest)
        except BaseException:
            for source in sources:
                source.rewind()
            raise
        for source, entries in taken:
            if entries:
                source.trim()
        largest = max((sum(map(_size, entries)) for _, entries in taken), default=0)
        return Pass(len(read), largest >= share_bytes)

    def _log_of(self, policy: str) -> ShardLog:
        if policy not in self._logs:
            self._logs[policy] = ShardLog(self._shards, policy)
        return self._logs[policy]


def read_sealable(entry: Entry) -> tuple[str, Sealable]:
    """The policy a record belongs to, and what its shard says of it.

    What does not decode, or names a policy that cannot be, belongs to `DEAD_LETTERS`.
    """
    try:
        record = decode_record(entry.content)
    except msgspec.DecodeError:
        return DEAD_LETTERS, Sealable(entry, 0.0, None)
    policy = UNNAMED if record.policy is None else record.policy
    if policy != UNNAMED and POLICY_NAME.fullmatch(policy) is None:
        return DEAD_LETTERS, Sealable(entry, record.time, None)
    return policy, Sealable(entry, record.time, _schema_hash(record))


def _size(entry: Entry) -> int:
    return len(entry.content)


def group_by_policy(entries: Iterable[Entry]) -> dict[str, list[Sealable]]:
    """Entries by the policy whose shards they belong to, in order."""
    groups: dict[str, list[Sealable]] = {}
    for entry in entries:
        policy, sealable = read_sealable(entry)
        groups.setdefault(policy, []).append(sealable)
    return groups


def _schema_hash(record: Record) -> str | None:
    match record:
        case DecisionBatch() | TransitionRecord():
            return record.schema_hash
        case Outcome():
            return None
