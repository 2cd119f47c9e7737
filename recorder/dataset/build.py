"""Shards to parts: what is closed is sealed once, what is open is read again next time.

Correct by episode ids alone: an episode that a part holds is not sealed again, however often its
shards are read. `progress.json` only says where reading must begin.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from contract.join import Counted, Join, JoinRules
from contract.records import DecisionBatch, Outcome, Record, TransitionRecord, row_names
from contract.transitions import Episode, Transition
from recorder.dataset.assembly import Assembler, PackedEpisode
from recorder.dataset.manifest import PartManifest, SourceShard
from recorder.dataset.parts import PartWriter
from recorder.dataset.store import DatasetStore
from recorder.dataset.tables import EPISODES, decode_table
from recorder.shards import raw_folder, read_manifest, read_records, shard_numbers, shard_path

_PROGRESS: Final = "progress.json"
_LONE: Final = "decision:"
"""What the join calls a decision that came without an episode id, before the decision's name."""


@dataclass(frozen=True)
class BuildReport:
    """What one build did."""

    parts: list[PartManifest]
    """Those it sealed."""
    counts: dict[Counted, int]
    """The join's, over all shards that were read; an episode that was sealed before counts too."""
    num_strangers: int
    """Steps left out since their observations are not of their episode's schema."""
    num_open: int
    """Episodes and lone decisions that are not closed yet."""


class _Progress(msgspec.Struct, frozen=True):
    read_to: int = 0
    """The last shard that was read."""
    read_from: int = 1
    """The first shard with a record of something that was still open then."""


def build(
    shards: Path,
    store: DatasetStore,
    policy: str,
    now: float,
    rules: JoinRules | None = None,
) -> BuildReport:
    """Seal every episode that the shards of a policy close and no part holds.

    Args:
        shards: The recorder's folder.
        store: Where the parts go. One build a policy runs at a time.
        policy: Whose shards are read.
        now: Unix seconds, for the parts' manifests; what is closed does not depend on it.
        rules: How long the join waits; each policy's builds always have the same.
    """
    rules = rules or JoinRules()
    folder = raw_folder(shards, policy)
    progress = _read_progress(store, policy)
    numbers = shard_numbers(folder, after=progress.read_from - 1)
    if not numbers or numbers[-1] <= progress.read_to:
        return BuildReport([], Join(rules).counts, 0, 0)
    reading = _Reading(rules, _sealed_ids(store, policy, numbers[0]))
    writer = PartWriter(store, created_at=now)
    sealed: list[PartManifest] = []
    sources: list[SourceShard] = []
    for number in numbers:
        path = shard_path(folder, number)
        manifest = read_manifest(path)
        sources.append(SourceShard(number=number, sha256=manifest.sha256))
        records = (record for _, _, record in read_records(path))
        for packed in reading.read(number, records, manifest.first_time):
            sealed += writer.seal(sources, writer.add(packed))
    sealed += writer.seal(sources)
    _write_progress(store, policy, _Progress(numbers[-1], reading.first_open(numbers[-1] + 1)))
    return BuildReport(sealed, reading.join.counts, reading.num_strangers, reading.num_open)


class _Reading:
    """The join, the assembler, and which shard each open thing was first seen in."""

    def __init__(self, rules: JoinRules, sealed_ids: set[str]) -> None:
        self.join = Join(rules)
        self._rules = rules
        self._assembler = Assembler()
        self._sealed_ids = sealed_ids
        self._open: dict[str, tuple[int, float]] = {}
        """Episode id or row's name to its first shard and its latest record's time."""

    @property
    def num_strangers(self) -> int:
        return self._assembler.num_strangers

    @property
    def num_open(self) -> int:
        return len(self._open)

    def read(
        self, number: int, records: Iterable[Record], oldest: float
    ) -> Iterator[PackedEpisode]:
        """Take one shard, whose oldest record is of the time `oldest`.

        Shards are sealed about in the order of their records, but a producer that could not ship
        for hours comes with old ones. So nothing is taken for silent that was heard of an hour
        before the oldest record of the latest shard, rather than before its newest.
        """
        for record in records:
            for name in _names(record):
                if name in self._sealed_ids:
                    continue
                first, latest = self._open.get(name, (number, record.time))
                self._open[name] = (first, max(latest, record.time))
            if isinstance(record, TransitionRecord):
                yield from self._take_reported(record)
            else:
                yield from self._take(self.join.add(record))
        yield from self._take(self.join.close_silent(oldest))
        limit = oldest - self._rules.episode_timeout_seconds
        yield from self._closed(self._assembler.close_silent(limit))
        # What has no end, such as an outcome whose decision never came, is given up as the join
        # gives it up.
        for name, (_, latest) in list(self._open.items()):
            if latest < limit:
                del self._open[name]

    def first_open(self, otherwise: int) -> int:
        """The first shard with a record of something open."""
        return min((first for first, _ in self._open.values()), default=otherwise)

    def _take(self, items: Iterable[Transition | Episode]) -> Iterator[PackedEpisode]:
        for item in items:
            if item.episode_id in self._sealed_ids:
                continue
            if isinstance(item, Transition) and item.episode_id.startswith(_LONE):
                yield from self._closed(self._assembler.add_lone(item))
                continue
            yield from self._closed(self._assembler.add(item))
            if isinstance(item, Episode):
                # It has no episode to seal where none of its outcomes came.
                self._open.pop(item.episode_id, None)

    def _take_reported(self, record: TransitionRecord) -> Iterator[PackedEpisode]:
        for item in self.join.add(record):
            if item.episode_id in self._sealed_ids or isinstance(item, Episode):
                continue
            if record.episode_id is None or record.step is None:
                yield from self._closed(self._assembler.add_lone(item))
            else:
                yield from self._closed(self._assembler.add_reported(item))

    def _closed(self, episodes: Iterable[PackedEpisode]) -> Iterator[PackedEpisode]:
        for packed in episodes:
            episode_id = packed.episode.episode_id
            self._open.pop(episode_id, None)
            # Its last records may be read after it was closed.
            self._sealed_ids.add(episode_id)
            yield packed


def _names(record: Record) -> Iterator[str]:
    """What a record keeps open: an episode, or a decision by itself."""
    match record:
        case DecisionBatch(is_late=True):
            return
        case DecisionBatch():
            rows = zip(record.episode_ids, record.steps, row_names(record), strict=True)
            for episode_id, step, name in rows:
                yield f"{_LONE}{name}" if episode_id is None or step is None else episode_id
        case Outcome(decision_id=None):
            yield record.episode_id or ""
        case Outcome():
            yield f"{_LONE}{record.decision_id}/{record.row}"
        case TransitionRecord():
            if record.episode_id is not None and record.step is not None:
                yield record.episode_id


def _sealed_ids(store: DatasetStore, policy: str, first_shard: int) -> set[str]:
    """Episodes of the parts that were made of any of the shards from `first_shard` on."""
    found: set[str] = set()
    for part in store.parts(policy):
        if any(shard.number >= first_shard for shard in part.shards):
            table = decode_table(store.read_part_file(part, EPISODES), ["episode_id"])
            found.update(table["episode_id"].to_pylist())
    return found


def _read_progress(store: DatasetStore, policy: str) -> _Progress:
    content = store.read(f"{policy}/{_PROGRESS}")
    return _Progress() if content is None else msgspec.json.decode(content, type=_Progress)


def _write_progress(store: DatasetStore, policy: str, progress: _Progress) -> None:
    store.write(f"{policy}/{_PROGRESS}", msgspec.json.encode(progress))
