"""Shards to parts: what is closed is sealed once, what is open is read again next time.

Correct by episode ids alone: an episode that a part holds is not sealed again, however often its
shards are read. `progress.json` only says where reading must begin.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from contract.join import Counted, Join, JoinRules
from contract.records import Record, TransitionRecord
from contract.transitions import Episode, Transition
from recorder.dataset.assembly import Assembler, PackedEpisode
from recorder.dataset.manifest import PartManifest, SourceShard
from recorder.dataset.parts import PartWriter
from recorder.dataset.store import DatasetStore
from recorder.dataset.tables import EPISODES, decode_table
from recorder.shards import (
    CLOCKS_DIFFER_SECONDS,
    ShardManifest,
    raw_folder,
    read_manifest,
    read_records,
    shard_numbers,
    shard_path,
)

_PROGRESS: Final = "progress.json"
_LONE: Final = "decision:"
"""What the join puts before the name of a decision that came without an episode."""


@dataclass(frozen=True)
class BuildReport:
    """What one build did."""

    parts: list[PartManifest]
    """Those it sealed."""
    counts: dict[Counted, int]
    """The join's, over all shards that were read, some of them not for the first time."""
    num_strangers: int
    """Steps left out since their observations are not of their episode's schema."""
    num_shards: int
    """Shards that were read for the first time."""


class _Progress(msgspec.Struct, frozen=True):
    read_to: int = 0
    """The last shard that was read."""
    open_since: float | None = None
    """Unix seconds: no record of what was open then is older. None where nothing was."""


class _Shard(NamedTuple):
    path: Path
    manifest: ShardManifest


def build(
    shards: Path,
    store: DatasetStore,
    policy: str,
    now: float,
    rules: JoinRules | None = None,
) -> BuildReport:
    """Seal every episode that the shards of a policy close and no part holds.

    Outcomes are found among the policy's own records: the service names it in each.

    Args:
        shards: The recorder's folder.
        store: Where the parts go. One build a policy runs at a time.
        policy: Whose shards are read.
        now: Unix seconds, for the parts' manifests; what is closed depends on the records alone.
        rules: How rewards are made and how long the join waits: the same in all builds.

    Raises:
        ShardError: A shard is damaged. What was sealed before it stays.
        DatasetError: Another build of this policy is running.
    """
    with store.only_writer(policy):
        return _build(shards, store, policy, now, rules or JoinRules())


class _Reading:
    """The join, and what makes episodes of its transitions."""

    def __init__(self, rules: JoinRules) -> None:
        self.join = Join(rules)
        self._rules = rules
        self._assembler = Assembler()

    @property
    def num_strangers(self) -> int:
        """Steps that were left out."""
        return self._assembler.num_strangers

    @property
    def open_since(self) -> float | None:
        """Time of the earliest record of anything open."""
        times = (self.join.open_since, self._assembler.open_since)
        return min((each for each in times if each is not None), default=None)

    def read(self, shard: _Shard) -> Iterator[PackedEpisode]:
        """Take one shard; the episodes that are closed by then.

        What is silent is told by the shard's oldest record: a producer that could not ship for
        hours comes with old ones, and nothing that goes on in them was silent.
        """
        oldest = shard.manifest.first_time
        yield from self._take(self.join.close_silent(oldest))
        limit = oldest - self._rules.episode_timeout_seconds
        yield from self._assembler.close_silent(limit)
        for _, _, record in read_records(shard.path):
            yield from self._add(record)

    def _add(self, record: Record) -> Iterator[PackedEpisode]:
        done = self.join.add(record)
        if not isinstance(record, TransitionRecord):
            yield from self._take(done)
            return
        for item in done:
            if isinstance(item, Episode):
                continue
            if record.episode_id is None or record.step is None:
                yield from self._assembler.add_lone(item)
            else:
                yield from self._assembler.add_reported(item)

    def _take(self, items: Iterable[Transition | Episode]) -> Iterator[PackedEpisode]:
        for item in items:
            if isinstance(item, Transition) and item.episode_id.startswith(_LONE):
                yield from self._assembler.add_lone(item)
            else:
                yield from self._assembler.add(item)


def _build(
    shards: Path, store: DatasetStore, policy: str, now: float, rules: JoinRules
) -> BuildReport:
    progress = _read_progress(store, policy)
    found = _shards_to_read(raw_folder(shards, policy), progress)
    num_new = sum(shard.manifest.number > progress.read_to for shard in found)
    reading = _Reading(rules)
    if not num_new:
        return BuildReport([], reading.join.counts, 0, 0)
    known = _sealed_ids(store, policy, found[0].manifest.number)
    writer = PartWriter(store, created_at=now)
    sealed: list[PartManifest] = []
    sources: list[SourceShard] = []
    for shard in found:
        manifest = shard.manifest
        sources.append(SourceShard(number=manifest.number, sha256=manifest.sha256))
        for packed in reading.read(shard):
            if packed.episode.episode_id not in known:
                known.add(packed.episode.episode_id)
                sealed += writer.seal(sources, writer.add(packed))
    sealed += writer.seal(sources)
    _write_progress(store, policy, _Progress(sources[-1].number, reading.open_since))
    return BuildReport(sealed, reading.join.counts, reading.num_strangers, num_new)


def built_to(store: DatasetStore, policy: str) -> tuple[int, float | None]:
    """The last shard that was read, and since when something is open, in Unix seconds."""
    progress = _read_progress(store, policy)
    return progress.read_to, progress.open_since


def _shards_to_read(folder: Path, progress: _Progress) -> list[_Shard]:
    """The shards that are new, and before them those with records of what was open."""
    found = []
    since = float("inf") if progress.open_since is None else progress.open_since
    for number in reversed(shard_numbers(folder)):
        path = shard_path(folder, number)
        shard = _Shard(path, read_manifest(path))
        is_new = number > progress.read_to
        # What was sealed before has no record that is younger.
        if not is_new and shard.manifest.sealed_at < since - CLOCKS_DIFFER_SECONDS:
            break
        if is_new or shard.manifest.last_time >= since:
            found.append(shard)
    return found[::-1]


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
