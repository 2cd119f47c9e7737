"""What keeps a policy's dataset and raw shards in order: build, join small parts, drop old ones."""

from pathlib import Path
from typing import Final, NamedTuple

from contract.declaration import DeclarationError, LoggingRules, read_declaration
from contract.join import JoinRules
from recorder.dataset.build import BuildReport, build, built_to
from recorder.dataset.manifest import PartManifest
from recorder.dataset.parts import compact, expire
from recorder.dataset.store import DatasetStore
from recorder.shards import (
    DEAD_LETTERS,
    UNNAMED,
    raw_folder,
    read_manifest,
    shard_numbers,
    shard_path,
)

_DAY_SECONDS: Final = 86400.0


class Upkeep(NamedTuple):
    """What was done for one policy."""

    build: BuildReport
    joined: list[PartManifest]
    """Parts that came of smaller ones."""
    expired: list[PartManifest]
    """Parts that were removed."""
    retention_days: float
    """Of its parts."""
    num_shards_removed: int


def keep_up(
    data: Path,
    shards: Path,
    store: DatasetStore,
    policy: str,
    *,
    now: float,
    raw_days: float,
    rules: JoinRules | None = None,
) -> Upkeep:
    """Build a policy's dataset on, and let go of what is older than it is kept.

    Args:
        data: The service's folder, whose declarations say how long episodes are kept.
        shards: The recorder's folder.
        store: Where the dataset is.
        policy: Whose.
        now: Unix seconds.
        raw_days: Raw shards that are older are removed once they are in the dataset; sooner where
            the policy keeps its episodes for less.
        rules: How rewards are made: the same in all builds.

    Raises:
        ShardError: A shard is damaged.
        DatasetError: Another build of this policy is running.
    """
    report = build(shards, store, policy, now, rules)
    joined = compact(store, policy, now)
    days = _logging_rules(data, policy).retention_days
    expired = expire(store, policy, now - days * _DAY_SECONDS)
    read_to, open_since = built_to(store, policy)
    before = now - min(raw_days, days) * _DAY_SECONDS
    if open_since is not None:
        before = min(before, open_since)
    removed = remove_shards(raw_folder(shards, policy), before, read_to)
    return Upkeep(report, joined, expired, days, removed)


def remove_shards(folder: Path, before: float, up_to: int) -> int:
    """Remove the oldest shards, sealed before a time (Unix seconds); how many there were.

    Those above the number `up_to` stay, and the newest does, since it carries the numbering on.
    """
    num_removed = 0
    for number in shard_numbers(folder)[:-1]:
        path = shard_path(folder, number)
        if number > up_to or read_manifest(path).sealed_at >= before:
            break
        path.unlink()
        num_removed += 1
    return num_removed


def remove_unread_shards(shards: Path, now: float, raw_days: float) -> int:
    """Remove old shards that no dataset is made of: records of no policy, and dead letters."""
    before = now - raw_days * _DAY_SECONDS
    folders = [raw_folder(shards, name) for name in (UNNAMED, DEAD_LETTERS)]
    newest = [max(shard_numbers(folder), default=0) for folder in folders]
    return sum(
        remove_shards(folder, before, number)
        for folder, number in zip(folders, newest, strict=True)
    )


def _logging_rules(data: Path, policy: str) -> LoggingRules:
    """What the policy declares; the defaults where nothing is declared here."""
    try:
        return read_declaration(data / "policies" / policy).logging
    except DeclarationError:
        return LoggingRules()
