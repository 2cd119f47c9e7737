"""What a policy's dataset amounts to, from its manifests alone; and whether its files are whole."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from recorder.dataset.manifest import DatasetError
from recorder.dataset.store import DatasetStore


class Overview(NamedTuple):
    """All parts of one policy together, what is quarantined included."""

    policy: str
    num_parts: int
    num_episodes: int
    num_complete_episodes: int
    num_steps: int
    size_bytes: int
    mean_return: float
    started_at: float
    """Unix seconds."""
    ended_at: float
    observations: list[str]
    """Dtype and shape, and the schema they follow."""
    steps_by_version: dict[str, int]
    steps_by_behaviour: dict[str, int]
    steps_by_source: dict[str, int]
    first_shard: int | None
    """Of those that were read; None where no shard was."""
    last_shard: int | None


def survey(store: DatasetStore, policy: str) -> Overview:
    """Add up a policy's parts.

    Raises:
        DatasetError: There are none.
    """
    parts = store.parts(policy)
    if not parts:
        raise DatasetError(f"{policy}: there is no dataset")
    num_episodes = sum(part.num_episodes for part in parts)
    shards = [shard.number for part in parts for shard in part.shards]
    return Overview(
        policy=policy,
        num_parts=len(parts),
        num_episodes=num_episodes,
        num_complete_episodes=sum(part.num_complete_episodes for part in parts),
        num_steps=sum(part.num_steps for part in parts),
        size_bytes=sum(part.size_bytes for part in parts),
        mean_return=sum(part.total_return for part in parts) / num_episodes,
        started_at=min(part.started_at for part in parts),
        ended_at=max(part.ended_at for part in parts),
        observations=sorted(
            {
                f"{part.observation_dtype} {list(part.observation_shape)} of {part.schema_hash}"
                for part in parts
            }
        ),
        steps_by_version=_added(part.versions for part in parts),
        steps_by_behaviour=_added(part.behaviours for part in parts),
        steps_by_source=_added(part.sources for part in parts),
        first_shard=min(shards, default=None),
        last_shard=max(shards, default=None),
    )


def damaged_files(store: DatasetStore, policy: str) -> list[str]:
    """Why a file of a part is not what was sealed, one line each; every file is read."""
    damaged = []
    for part in store.parts(policy):
        for name in part.files:
            try:
                store.read_part_file(part, name)
            except DatasetError as error:
                damaged.append(str(error))
    return damaged


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(sorted(total.items()))
