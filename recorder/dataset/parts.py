"""Episodes to sealed parts, and parts to larger ones."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final

import pyarrow as pa
from pyarrow import compute

from recorder.dataset.assembly import PackedEpisode
from recorder.dataset.frames import FrameLayout
from recorder.dataset.manifest import PartFile, PartManifest, SourceShard
from recorder.dataset.store import DatasetStore
from recorder.dataset.tables import (
    EPISODES,
    OBSERVATIONS,
    SCHEMAS,
    STEPS,
    count_words,
    decode_table,
    encode_table,
    join_tables,
    list_widths,
    tables_of,
    with_later_columns,
)

PART_STEPS: Final = 250_000
PART_BYTES: Final = 256 * 1024**2
"""A part is closed when it has so many steps, or about so many bytes of observations: what a
builder and a reader hold at a time."""
_NO_VERSION: Final = "none"


@dataclass(frozen=True)
class Kind:
    """What all episodes of a part have in common."""

    policy: str
    schema_hash: str
    layout: FrameLayout


@dataclass
class _Waiting:
    episodes: list[PackedEpisode] = field(default_factory=list)
    num_steps: int = 0
    num_bytes: int = 0


class PartWriter:
    """Owns the episodes that wait until they fill a part, apart by kind."""

    def __init__(self, store: DatasetStore, created_at: float) -> None:
        self._store = store
        self._created_at = created_at
        self._waiting: dict[Kind, _Waiting] = {}

    def add(self, packed: PackedEpisode) -> list[Kind]:
        """Take an episode; the kinds that fill a part now."""
        kind = Kind(packed.episode.policy, packed.schema_hash, packed.layout)
        waiting = self._waiting.setdefault(kind, _Waiting())
        waiting.episodes.append(packed)
        waiting.num_steps += len(packed.steps)
        waiting.num_bytes += packed.num_bytes
        is_full = waiting.num_steps >= PART_STEPS or waiting.num_bytes >= PART_BYTES
        return [kind] if is_full else []

    def seal(
        self, shards: Sequence[SourceShard], kinds: Iterable[Kind] | None = None
    ) -> list[PartManifest]:
        """Seal what waits, of these kinds or of all."""
        sealed = []
        for kind in list(self._waiting) if kinds is None else kinds:
            tables = tables_of(_in_order(self._waiting.pop(kind).episodes))
            sealed.append(seal_tables(self._store, kind, tables, shards, self._created_at))
        return sealed


def seal_tables(
    store: DatasetStore,
    kind: Kind,
    tables: dict[str, pa.Table],
    shards: Sequence[SourceShard],
    created_at: float,
    replaces: Sequence[str] = (),
) -> PartManifest:
    """Seal tables as a part; the same tables are the same part, however often they are sealed."""
    contents = {name: encode_table(name, tables[name]) for name in SCHEMAS}
    files = {
        name: PartFile(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in contents.items()
    }
    name = "".join([kind.policy, kind.schema_hash, *(files[each].sha256 for each in SCHEMAS)])
    episodes, steps = tables[EPISODES], tables[STEPS]
    manifest = PartManifest(
        policy=kind.policy,
        part_id=hashlib.sha256(name.encode()).hexdigest()[:16],
        schema_hash=kind.schema_hash,
        observation_shape=kind.layout.shape,
        observation_dtype=kind.layout.dtype,
        num_actions=max(
            list_widths(steps["q_values"]) | list_widths(steps["action_mask"]), default=None
        ),
        num_episodes=len(episodes),
        num_complete_episodes=_total(episodes["is_complete"]),
        num_steps=len(steps),
        num_rows=_total(tables[OBSERVATIONS]["num_rows"]),
        total_return=float(_total(episodes["episode_return"])),
        versions=count_words(steps, "version") | _without_version(steps),
        behaviours=count_words(steps, "behaviour"),
        sources=count_words(steps, "source"),
        started_at=compute.min(episodes["started_at"]).as_py(),
        ended_at=compute.max(episodes["ended_at"]).as_py(),
        shards=tuple(shards),
        replaces=tuple(replaces),
        created_at=datetime.fromtimestamp(created_at, UTC).isoformat(),
        files=files,
    )
    store.seal(manifest, contents)
    return manifest


def read_tables(store: DatasetStore, part: PartManifest) -> dict[str, pa.Table]:
    """A part's tables, by file name."""
    return {
        name: with_later_columns(name, decode_table(store.read_part_file(part, name)))
        for name in SCHEMAS
    }


def compact(store: DatasetStore, policy: str, created_at: float) -> list[PartManifest]:
    """Join neighbouring small parts until each is about full; returns the parts that came of it.

    The new part names those that it replaces, so that a reader counts no episode twice whether or
    not the old ones are gone. What an earlier run left behind is removed first.
    """
    with store.only_writer(policy):
        remove_replaced(store, policy)
        groups = _groups(store.parts(policy))
        made = [_join(store, group, created_at) for group in groups if len(group) > 1]
        remove_replaced(store, policy)
        return made


def remove_replaced(store: DatasetStore, policy: str) -> None:
    """Remove the parts whose episodes another one holds, and what was never finished."""
    for part_id in store.replaced_parts(policy):
        store.remove_part(policy, part_id)


def expire(store: DatasetStore, policy: str, before: float) -> list[PartManifest]:
    """Remove the parts whose every episode ended before a time, Unix seconds; returns them."""
    with store.only_writer(policy):
        expired = [part for part in store.parts(policy) if part.ended_at < before]
        for part in expired:
            store.remove_part(policy, part.part_id)
        return expired


def _join(store: DatasetStore, group: Sequence[PartManifest], created_at: float) -> PartManifest:
    first = group[0]
    shards = {shard.number: shard for part in group for shard in part.shards}
    return seal_tables(
        store,
        Kind(first.policy, first.schema_hash, first.layout),
        join_tables([read_tables(store, part) for part in group]),
        [shards[number] for number in sorted(shards)],
        created_at,
        replaces=[part.part_id for part in group],
    )


def _groups(parts: Iterable[PartManifest]) -> list[list[PartManifest]]:
    """Parts of one kind that fit into one, in the order of time."""
    groups: list[list[PartManifest]] = []
    for _, same in groupby(sorted(parts, key=_kind_key), key=_kind_key):
        group: list[PartManifest] = []
        for part in same:
            if group and not _fits([*group, part]):
                groups.append(group)
                group = []
            group.append(part)
        groups.append(group)
    return groups


def _kind_key(part: PartManifest) -> tuple[Any, ...]:
    return part.schema_hash, part.observation_shape, part.observation_dtype


def _fits(parts: Sequence[PartManifest]) -> bool:
    num_bytes = sum(part.files[OBSERVATIONS].size_bytes for part in parts)
    return sum(part.num_steps for part in parts) <= PART_STEPS and num_bytes <= PART_BYTES


def _in_order(episodes: Iterable[PackedEpisode]) -> list[PackedEpisode]:
    return sorted(episodes, key=lambda each: (each.episode.started_at, each.episode.episode_id))


def _total(column: pa.ChunkedArray) -> Any:
    return compute.sum(column).as_py() or 0


def _without_version(steps: pa.Table) -> dict[str, int]:
    count = steps["version"].null_count
    return {_NO_VERSION: count} if count else {}
