"""Which version answers which row of a request, while episodes are split over several."""

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from msgspec import structs

from contract.assignment import Split, assign, split_in_force, time_in_id
from service.inference.live import Live, Placed

_MOST_SEEN: Final = 100_000
"""Episodes without a time in their id whose first row is remembered."""
_LONGEST_EPISODE_SECONDS: Final = 3600.0
"""A split that ended before it has no episode left; the join closes a silent one as late."""


class FirstSeen:
    """When episodes were seen first whose ids do not say when they began."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, float] = OrderedDict()

    def began_at(self, episode_id: str, step: int | None, now: float) -> float:
        """Unix seconds. One that is met in the midst began before anything that is known."""
        found = self._times.get(episode_id)
        if found is None:
            found = self._times[episode_id] = 0.0 if step else now
            if len(self._times) > _MOST_SEEN:
                self._times.popitem(last=False)
        return found


class Traffic:
    """The splits in force and the versions they name; made anew whenever either changes."""

    def __init__(
        self,
        splits: Sequence[Split],
        stable: Live,
        warm: Mapping[int, Live],
        first_seen: FirstSeen,
    ) -> None:
        self._splits = tuple(splits)
        self._stable = stable
        self._warm = warm
        self._first_seen = first_seen
        self._seats: dict[tuple[int, str], Live] = {}

    def choose(
        self,
        episode_ids: Sequence[str | None],
        steps: Sequence[int | None] | None,
        started_at: Sequence[float] | None,
    ) -> list[Placed]:
        """The version of each row.

        Said of every row: "stable" may be another version by the time that the model is asked.
        """
        now = time.time()
        return [
            self._place(
                episode_id,
                None if steps is None else steps[row],
                None if started_at is None else started_at[row],
                now,
            )
            for row, episode_id in enumerate(episode_ids)
        ]

    def seat(self, version: int | None, variant: str) -> Live:
        """A version in a role; stable where it is not in memory."""
        if version is None or (version == self._version_of(self._stable) and variant == "stable"):
            return self._stable
        seat = self._seats.get((version, variant))
        if seat is None:
            live = self._warm.get(version)
            if live is None:
                return self._stable
            # The same model, breaker and cost; only what its answers say of it differs.
            who = live.answered_by
            seat = replace(live, answered_by=structs.replace(who, variant=variant))
            self._seats[version, variant] = seat
        return seat

    def _place(
        self, episode_id: str | None, step: int | None, started_at: float | None, now: float
    ) -> Placed:
        if episode_id is None:
            return Placed(self._stable, None)
        began_at = time_in_id(episode_id)
        if began_at is None and started_at is not None:
            began_at = min(started_at, now)
        if began_at is None:
            began_at = self._first_seen.began_at(episode_id, step, now)
        version, variant, share = assign(self._splits, episode_id, began_at)
        split = split_in_force(self._splits, began_at)
        salt = split.salt if split is not None and share > 0 else None
        return Placed(self.seat(version, variant), salt)

    @staticmethod
    def _version_of(live: Live) -> int:
        return live.policy.manifest.version


def is_split(splits: Sequence[Split], now: float) -> bool:
    """Whether open episodes may be of more than one version."""
    recent = [
        split
        for place, split in enumerate(splits)
        if place + 1 == len(splits)
        or splits[place + 1].effective_at > now - _LONGEST_EPISODE_SECONDS
    ]
    versions = {split.stable for split in recent}
    versions |= {split.canary for split in recent if split.canary_share > 0}
    return len(versions - {None}) > 1
