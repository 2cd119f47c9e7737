"""A dataset as what is trained and judged on: whole, episode by episode, in batches, by chance."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recorder.dataset.manifest import DatasetError, PartManifest
from recorder.dataset.parts import read_tables
from recorder.dataset.quarantine import Quarantine, active_quarantines
from recorder.dataset.sampling import TransitionSampler
from recorder.dataset.store import DatasetStore
from recorder.dataset.transitions import LoggedEpisode, LoggedTransitions, Part

MAX_HELD_BYTES: Final = 1024**3


@dataclass(frozen=True)
class Selection:
    """Which episodes of a policy; what is None does not restrict."""

    begin: float | None = None
    """Unix seconds: episodes that began then or later."""
    end: float | None = None
    """Unix seconds: episodes that began before."""
    schema_hash: str | None = None
    behaviours: frozenset[str] | None = None
    """Episodes in which none but these acted."""
    is_complete: bool | None = None
    parts: frozenset[str] | None = None
    """Ids of the only parts that are read, whatever has been added since."""


@dataclass(frozen=True)
class Dataset:
    """What a policy's parts held when it was read: it does not change when parts are added."""

    store: DatasetStore
    policy: str
    selection: Selection
    manifests: tuple[PartManifest, ...]
    quarantines: tuple[Quarantine, ...]
    """Those that were active."""
    max_held_bytes: int = field(default=MAX_HELD_BYTES, repr=False)

    @cached_property
    def sha256(self) -> str:
        """Of all that decides what is loaded: the parts' files, the selection, the quarantines."""
        selection = self.selection
        chosen = [selection.begin, selection.end, selection.schema_hash, selection.is_complete]
        words = [
            *(
                f"{name} {file.sha256}"
                for part in self.manifests
                for name, file in part.files.items()
            ),
            *(f"without {each.begin} {each.end} {each.episode_id}" for each in self.quarantines),
            repr((*chosen, sorted(selection.behaviours or ()))),
        ]
        return hashlib.sha256("\n".join(words).encode()).hexdigest()

    @property
    def dataset_id(self) -> str:
        """Names exactly these episodes, for a bundle's lineage."""
        return f"{self.policy}-{self.sha256[:12]}"

    @cached_property
    def behaviours(self) -> tuple[str, ...]:
        """Everybody who acted in any part, sorted; what `LoggedTransitions.behaviours` counts."""
        return tuple(sorted({name for part in self.manifests for name in part.behaviours}))

    @cached_property
    def num_actions(self) -> int:
        """As wide as Q-values are; 0 where no step has any."""
        return max((part.num_actions or 0 for part in self.manifests), default=0)

    def episodes(self) -> Iterator[LoggedEpisode]:
        """Every episode, by the time of its beginning within each part; one part is in memory."""
        for part, chosen in self.opened(self.manifests):
            yield from part.read_episodes(chosen)

    def batches(
        self, size: int, rng: np.random.Generator | None = None
    ) -> Iterator[LoggedTransitions]:
        """Every transition once, `size` at a time, the last batch of a part shorter.

        With `rng`, parts come in random order and transitions in random order within each. One
        part is in memory, compressed, and unpacked as far as `max_held_bytes` allow.
        """
        manifests = list(self.manifests)
        if rng is not None:
            manifests = [manifests[place] for place in rng.permutation(len(manifests))]
        held = 0 if rng is None else self.max_held_bytes
        for part, chosen in self.opened(manifests, held):
            places = part.steps_of(chosen)
            if rng is not None:
                rng.shuffle(places)
            for start in range(0, len(places), size):
                yield part.take(places[start : start + size])

    def sampler(self) -> TransitionSampler:
        """All transitions compressed in memory: they are drawn from at random, or taken at once.

        Raises:
            DatasetError: There are none.
        """
        share = self.max_held_bytes // max(1, len(self.manifests))
        opened = list(self.opened(self.manifests, share))
        if not opened:
            raise DatasetError(f"{self.policy}: no episode is selected")
        return TransitionSampler(opened)

    def load(self) -> LoggedTransitions:
        """All transitions as arrays: 56 KB each for stacks of four frames of 84 x 84.

        Raises:
            DatasetError: There are none, or they do not have one shape.
        """
        return self.sampler().take_all()

    def opened(
        self, manifests: Iterable[PartManifest], max_held_bytes: int = 0
    ) -> Iterator[tuple[Part, npt.NDArray[np.bool_]]]:
        """Each of these parts with any episode that is chosen, and which of its episodes are."""
        counts = [part.num_episodes for part in self.manifests]
        names = [part.part_id for part in self.manifests]
        firsts = dict(zip(names, accumulate([0, *counts[:-1]]), strict=True))
        for manifest in manifests:
            part = Part(
                manifest,
                read_tables(self.store, manifest),
                self.behaviours,
                self.num_actions,
                firsts[manifest.part_id],
                max_held_bytes,
            )
            chosen = _chosen(part.episodes, self.selection, self.quarantines)
            if chosen.any():
                yield part, chosen


def read_dataset(
    store: DatasetStore,
    policy: str,
    selection: Selection | None = None,
    max_held_bytes: int = MAX_HELD_BYTES,
) -> Dataset:
    """What a policy's parts hold now, without what is quarantined.

    Args:
        store: Where the parts are.
        policy: Whose.
        selection: Which episodes; all by default.
        max_held_bytes: Unpacked observations that random reading may keep.

    Raises:
        DatasetError: The policy has no part that can hold any of the selection.
    """
    selection = selection or Selection()
    manifests = tuple(part for part in store.parts(policy) if _may_hold(part, selection))
    if not manifests:
        raise DatasetError(f"{policy}: no part of a dataset holds what is selected")
    active = active_quarantines(store, policy)
    return Dataset(store, policy, selection, manifests, active, max_held_bytes)


def _may_hold(part: PartManifest, selection: Selection) -> bool:
    return (
        (selection.begin is None or part.ended_at >= selection.begin)
        and (selection.end is None or part.started_at < selection.end)
        and selection.schema_hash in (None, part.schema_hash)
        and (selection.parts is None or part.part_id in selection.parts)
    )


def _chosen(
    episodes: pa.Table, selection: Selection, quarantines: Sequence[Quarantine]
) -> npt.NDArray[np.bool_]:
    """Which episodes are loaded, [number of episodes]."""
    started, ended = episodes["started_at"].to_numpy(), episodes["ended_at"].to_numpy()
    chosen = np.ones(len(episodes), np.bool_)
    if selection.begin is not None:
        chosen &= started >= selection.begin
    if selection.end is not None:
        chosen &= started < selection.end
    if selection.is_complete is not None:
        chosen &= episodes["is_complete"].to_numpy() == selection.is_complete
    if selection.behaviours is not None:
        acted = episodes["behaviours"].to_pylist()
        chosen &= [selection.behaviours.issuperset(names) for names in acted]
    for each in quarantines:
        covered = (started < each.end) & (ended >= each.begin)
        if each.episode_id is not None:
            covered &= episodes["episode_id"].to_numpy(zero_copy_only=False) == each.episode_id
        chosen &= ~covered
    return chosen
