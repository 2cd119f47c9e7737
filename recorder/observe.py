"""The join, live over sealed shards: what it makes is handed to consumers.

Shards are the only input, in the order in which they were sealed. All that is held can be rebuilt
from them: after a restart those that open episodes may need are read again in silence, and without
a checkpoint everything that is kept is read and told.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import msgspec
import structlog

from contract.files import make_directory, replace_file
from contract.join import Join, JoinRules
from contract.transitions import Episode, Transition
from recorder.shards import (
    CLOCKS_DIFFER_SECONDS,
    UNNAMED,
    ShardManifest,
    raw_folder,
    read_manifest,
    read_records,
    sealed_policies,
    shard_numbers,
    shard_path,
)

CHECKPOINT_FILE: Final = "observed.json"

_log = structlog.get_logger(__name__)


class Consumer(Protocol):
    """Is told of what was joined, at least once each: a crash tells the last pass again."""

    def on_transition(self, transition: Transition) -> None:
        """A step was joined."""

    def on_episode(self, episode: Episode) -> None:
        """An episode was closed; its transitions came before."""

    def on_pass(self, now: float, join: Join) -> None:
        """All that is sealed has been told; Unix seconds. Comes with every pass."""


class _Checkpoint(msgspec.Struct, frozen=True):
    positions: dict[str, int]
    """Policy to the number of the last shard that was told of."""
    replay_from: float
    """Unix seconds: no record that an open episode needs is older."""


class _Shard(NamedTuple):
    path: Path
    manifest: ShardManifest


class Observer:
    """Owns the join and the position up to which it is known what was sealed."""

    def __init__(
        self,
        shards: Path,
        rules: JoinRules,
        consumers: Sequence[Consumer],
        on_shard: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_shard` is told of each shard before it is read: there may be a month of them."""
        self._shards = shards
        self._on_shard = on_shard
        self._consumers = consumers
        self._join = Join(rules)
        self._checkpoint_path = shards / CHECKPOINT_FILE
        checkpoint = _read_checkpoint(self._checkpoint_path)
        self._positions = checkpoint.positions
        self._replay(checkpoint)

    def follow(self, now: float) -> int:
        """Read the shards that are new and tell of them; how many there were.

        Raises:
            OSError: What was told may be told again.
            ShardError: A shard is damaged, and nothing behind it is looked at.
        """
        found = self._after(self._positions)
        for shard in found:
            self._tell(self._read(shard))
            self._positions[shard.manifest.policy] = shard.manifest.number
        if not found:
            # While records come the shards' own times tell how late it is.
            self._tell(self._join.close_silent(now))
        for consumer in self._consumers:
            consumer.on_pass(now, self._join)
        if found:
            self._save(now)
        return len(found)

    def _replay(self, checkpoint: _Checkpoint) -> None:
        """Build anew what was held; consumers know what comes of it."""
        old = [
            shard
            for shard in self._after({}, sealed_since=checkpoint.replay_from)
            if shard.manifest.number <= checkpoint.positions.get(shard.manifest.policy, 0)
        ]
        for shard in old:
            for _ in self._read(shard):
                pass
        self._join.reset_counts()
        if old:
            _log.info("join_rebuilt", shards=len(old), held_bytes=self._join.held_bytes)

    def _after(self, positions: dict[str, int], sealed_since: float = 0.0) -> list[_Shard]:
        found = []
        for policy in (*sealed_policies(self._shards), UNNAMED):
            folder = raw_folder(self._shards, policy)
            for number in reversed(shard_numbers(folder, positions.get(policy, 0))):
                path = shard_path(folder, number)
                manifest = read_manifest(path)
                if manifest.sealed_at < sealed_since - CLOCKS_DIFFER_SECONDS:
                    break
                found.append(_Shard(path, manifest))
        return sorted(found, key=lambda each: (each.manifest.sealed_at, each.manifest.number))

    def _read(self, shard: _Shard) -> Iterator[Transition | Episode]:
        """What a shard completes, one by one: as stacks a shard of frames would fill the memory."""
        self._on_shard()
        # By the records' own time: after an outage a shard holds hours, and no episode that goes on
        # in it has been silent.
        yield from self._join.close_silent(shard.manifest.first_time)
        for _, _, record in read_records(shard.path):
            yield from self._join.add(record)

    def _tell(self, items: Iterable[Transition | Episode]) -> None:
        for item in items:
            for consumer in self._consumers:
                if isinstance(item, Transition):
                    consumer.on_transition(item)
                else:
                    consumer.on_episode(item)

    def _save(self, now: float) -> None:
        replay_from = self._join.open_since
        checkpoint = _Checkpoint(self._positions, now if replay_from is None else replay_from)
        make_directory(self._shards)
        replace_file(self._checkpoint_path, msgspec.json.encode(checkpoint))


def _read_checkpoint(path: Path) -> _Checkpoint:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Checkpoint)
    except FileNotFoundError:
        return _Checkpoint({}, 0.0)
    except msgspec.DecodeError as error:
        _log.warning("checkpoint_unreadable", path=str(path), error=str(error))
        return _Checkpoint({}, 0.0)
