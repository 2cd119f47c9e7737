"""What each replica says of itself: how far it has read the ledger, which versions are warm.

It is news and not state: nothing that is served depends on it, and a replica that says nothing for
a while is not waited for.
"""

from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

FRESH_SECONDS: Final = 10.0
"""A replica that has said nothing for so long is taken for gone."""


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """One worker's word."""

    name: str
    at: float
    """Unix seconds."""
    position: int
    """Of the last ledger entry that it acts by."""
    warm: dict[str, list[int]]
    """Policy to the versions that can take traffic at once."""
    faults: dict[str, str] = {}
    """`<policy>/<version>` to why it does not load."""
    is_cut_off: bool = False
    """It cannot reach the shared ledger and serves by what it knew last."""


class Replicas(Protocol):
    """Where replicas tell, and are asked for."""

    def tell(self, replica: Replica) -> None:
        """Say how it stands; replaces what the replica said before."""

    def forget(self, name: str) -> None:
        """A replica stops: nobody is to wait for it."""

    def told(self, now: float) -> list[Replica]:
        """Those that said something lately, by name."""


class FileReplicas:
    """One file a replica, in a folder of the box that they share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def tell(self, replica: Replica) -> None:
        """Say how it stands."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(replica.name)
        temporary = path.with_suffix(".tmp")
        # Not fsynced: after a crash of the box it would be stale anyway.
        temporary.write_bytes(msgspec.json.encode(replica))
        temporary.replace(path)

    def forget(self, name: str) -> None:
        """Stop being waited for."""
        self._path(name).unlink(missing_ok=True)

    def told(self, now: float) -> list[Replica]:
        """Those that said something lately."""
        return fresh([path.read_bytes() for path in sorted(self._folder.glob("*.json"))], now)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name.replace('/', '_')}.json"


class RedisReplicas:
    """One field a replica in a hash of Redis; while Redis is away nobody is known of."""

    def __init__(self, client: Any, key: str, errors: tuple[type[Exception], ...]) -> None:
        """`errors` are what the client raises where Redis is away."""
        self._client = client
        self._key = key
        self._errors = errors

    def tell(self, replica: Replica) -> None:
        """Say how it stands."""
        self._call("hset", self._key, replica.name, msgspec.json.encode(replica))

    def forget(self, name: str) -> None:
        """Stop being waited for."""
        self._call("hdel", self._key, name)

    def told(self, now: float) -> list[Replica]:
        """Those that said something lately."""
        found = self._call("hgetall", self._key)
        return fresh(list(found.values()), now) if found else []

    def _call(self, name: str, *arguments: Any) -> Any:
        try:
            return getattr(self._client, name)(*arguments)
        except self._errors:
            return None


def fresh(contents: list[bytes], now: float) -> list[Replica]:
    """Decode what replicas said, leaving out the stale and the unreadable."""
    found = []
    for content in contents:
        try:
            replica = msgspec.json.decode(content, type=Replica)
        except msgspec.DecodeError:
            continue
        if now - replica.at <= FRESH_SECONDS:
            found.append(replica)
    return sorted(found, key=lambda each: each.name)
