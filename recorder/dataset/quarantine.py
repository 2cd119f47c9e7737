"""What is not learned from, a range of time or one episode: by whom and why, lifted again."""

import hashlib
from datetime import UTC, datetime

import msgspec

from recorder.dataset.manifest import DatasetError
from recorder.dataset.store import DatasetStore


class Quarantine(msgspec.Struct, frozen=True, kw_only=True):
    """Episodes that ran at any moment of a range are left out, or only the one that is named."""

    entry_id: str
    begin: float
    """Unix seconds."""
    end: float
    """Unix seconds; itself outside the range."""
    who: str
    why: str
    episode_id: str | None = None
    """None: every episode of the range."""
    at: str
    """RFC 3339, UTC."""
    lifted_by: str | None = None
    lifted_why: str | None = None
    lifted_at: str | None = None

    @property
    def is_active(self) -> bool:
        """It has not been lifted."""
        return self.lifted_at is None

    def covers(self, episode_id: str, started_at: float, ended_at: float) -> bool:
        """Whether an episode is left out."""
        is_meant = self.episode_id in (None, episode_id)
        return is_meant and started_at < self.end and ended_at >= self.begin


def add_quarantine(
    store: DatasetStore,
    policy: str,
    *,
    begin: float,
    end: float,
    who: str,
    why: str,
    now: float,
    episode_id: str | None = None,
) -> Quarantine:
    """Leave a range of time, or one episode of it, out of all that is loaded from now on.

    Raises:
        ValueError: The range is empty, or nobody says why.
    """
    if not begin < end:
        raise ValueError(f"expected a range of time, found {begin} to {end}")
    if not why.strip():
        raise ValueError("why: expected a reason, which is kept")
    name = f"{begin}|{end}|{who}|{why}|{now}|{episode_id or ''}"
    entry = Quarantine(
        entry_id=hashlib.sha256(name.encode()).hexdigest()[:12],
        begin=begin,
        end=end,
        who=who,
        why=why,
        episode_id=episode_id,
        at=_rfc3339(now),
    )
    _write(store, policy, entry)
    return entry


def lift_quarantine(
    store: DatasetStore, policy: str, entry_id: str, *, who: str, why: str, now: float
) -> Quarantine:
    """Let a range be learned from again; the entry stays, with who lifted it.

    Raises:
        DatasetError: No entry has this id, or it is lifted already.
    """
    found = {entry.entry_id: entry for entry in read_quarantines(store, policy)}
    entry = found.get(entry_id)
    if entry is None or not entry.is_active:
        active = [each.entry_id for each in found.values() if each.is_active]
        raise DatasetError(f"{policy}: no active quarantine {entry_id!r}; active are {active}")
    lifted = msgspec.structs.replace(entry, lifted_by=who, lifted_why=why, lifted_at=_rfc3339(now))
    _write(store, policy, lifted)
    return lifted


def read_quarantines(store: DatasetStore, policy: str) -> list[Quarantine]:
    """Every entry, lifted ones too, in the order they were made."""
    entries = [
        msgspec.json.decode(content, type=Quarantine)
        for name in store.names(f"{policy}/quarantine")
        if (content := store.read(f"{policy}/quarantine/{name}")) is not None
    ]
    return sorted(entries, key=lambda entry: (entry.at, entry.entry_id))


def active_quarantines(store: DatasetStore, policy: str) -> tuple[Quarantine, ...]:
    """Those that have not been lifted."""
    return tuple(each for each in read_quarantines(store, policy) if each.is_active)


def _write(store: DatasetStore, policy: str, entry: Quarantine) -> None:
    content = msgspec.json.format(msgspec.json.encode(entry), indent=2)
    store.write(f"{policy}/quarantine/{entry.entry_id}.json", content)


def _rfc3339(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat()
