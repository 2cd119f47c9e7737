"""Which version an episode belongs to: from its id and the time it began, alike on every replica.

Nothing is asked and nothing remembered: a hash of the id is held against the share that was in
force when the episode began, so a change of share moves no episode that is open.
"""

from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import Final, Literal, NamedTuple

Variant = Literal["stable", "canary"]

_HASHES: Final = 2**32
_UUID_LENGTH: Final = 36
_UUID_VERSION_AT: Final = 14
_REMEMBERED_SECONDS: Final = 86_400.0
"""An episode older than this is split as the oldest split that is remembered says."""


class Split(NamedTuple):
    """How traffic is split from a moment on."""

    effective_at: float
    """Unix seconds; episodes that begin then or later are split so."""
    stable: int | None
    """None: no version has been promoted."""
    canary: int | None = None
    canary_share: float = 0.0
    salt: str = ""
    """The rollout's id, so that the episodes of one canary are not those of the next."""


class Assigned(NamedTuple):
    """Whose an episode is."""

    version: int | None
    variant: Variant
    canary_share: float
    """In force when it began; 0 where there was no canary to be assigned to."""


def choose_variant(episode_id: str, salt: str, canary_share: float) -> Variant:
    """Pick by hash, not by chance; who is canary at a share stays so at every larger one."""
    # 32 bits divide into [0, 1) exactly; 64 would round up to 1.0 and escape a share of 1.
    digest = blake2b(episode_id.encode(), digest_size=4, key=salt.encode()).digest()
    return "canary" if int.from_bytes(digest) / _HASHES < canary_share else "stable"


def time_in_id(episode_id: str) -> float | None:
    """Unix seconds at which a version 7 UUID (RFC 9562) was made; None for any other id."""
    if len(episode_id) != _UUID_LENGTH or episode_id[_UUID_VERSION_AT] != "7":
        return None
    try:
        # 48 bits of milliseconds come first; `uuid.UUID` would cost four times as much a row.
        return int(episode_id[:8] + episode_id[9:13], 16) / 1000
    except ValueError:
        return None


def split_in_force(splits: Sequence[Split], time: float) -> Split | None:
    """The split of episodes that begin at `time`; the earliest known one for those before it."""
    if not splits:
        return None
    place = bisect_right(splits, time, key=_effective_at)
    return splits[max(place - 1, 0)]


def assign(splits: Sequence[Split], episode_id: str, began_at: float) -> Assigned:
    """Whose an episode is that began at `began_at`, Unix seconds."""
    split = split_in_force(splits, began_at)
    if split is None:
        return Assigned(None, "stable", 0.0)
    if split.canary is None or split.canary_share <= 0:
        return Assigned(split.stable, "stable", 0.0)
    variant = choose_variant(episode_id, split.salt, split.canary_share)
    version = split.canary if variant == "canary" else split.stable
    return Assigned(version, variant, split.canary_share)


def with_split(splits: tuple[Split, ...], split: Split) -> tuple[Split, ...]:
    """Append a split; those that no open episode can have begun under are let go."""
    # Clocks of two writers may differ: the order is the ledger's, not the clocks'.
    last = splits[-1].effective_at if splits else split.effective_at
    split = split._replace(effective_at=max(split.effective_at, last))
    oldest = split.effective_at - _REMEMBERED_SECONDS
    kept = tuple(
        before for before, after in pairwise((*splits, split)) if after.effective_at > oldest
    )
    return (*kept, split)


def _effective_at(split: Split) -> float:
    return split.effective_at
