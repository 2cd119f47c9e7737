"""Whole episodes of one version, out of the sealed log, as a profile is made of them."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from contract.declaration import AuditMetric, legal_actions
from contract.join import Join, JoinRules
from contract.privacy import is_logged
from contract.profile import Played, frame_cells, profiled_elements
from contract.records import Record
from contract.transitions import Episode, Transition
from recorder.dataset.quarantine import Quarantine
from recorder.shards import (
    UNNAMED,
    ShardManifest,
    raw_folder,
    read_manifest,
    read_records,
    shard_numbers,
    shard_path,
)
from service.inference.policy import Policy

LeftOut = Literal[
    "not whole", "of another version", "of the heuristic", "without observations", "quarantined"
]

_LEAST_MODEL_SHARE: Final = 0.95
"""Of an episode's steps: a late answer here and there is part of serving, many are not."""
_ROWS_AT_ONCE: Final = 1024


class Shard(NamedTuple):
    """One sealed piece of the log."""

    path: Path
    manifest: ShardManifest


class _Kept(NamedTuple):
    """One episode, [steps] each."""

    observations: npt.NDArray[Any]
    cells: npt.NDArray[np.int64] | None
    q_values: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]
    actions: npt.NDArray[np.int64]
    rewards: npt.NDArray[np.float64]
    audit: float | None


@dataclass
class LiveEpisodes:
    """Owns the episodes that were found; thins them out evenly where they are too many."""

    policy: Policy
    most_steps: int
    audit: AuditMetric | None = None
    quarantines: list[Quarantine] = field(default_factory=list)
    left_out: Counter[LeftOut] = field(default_factory=Counter)
    _kept: dict[str, _Kept] = field(default_factory=dict)
    _share: float = 1.0
    _num_steps: int = 0

    def __len__(self) -> int:
        """Episodes that are kept."""
        return len(self._kept)

    def add(self, episode: Episode, steps: list[Transition]) -> None:
        """Take one closed episode and its transitions."""
        if not is_logged(episode.episode_id, self._share):
            return
        why_not = self._why_not(episode, steps)
        if why_not is not None:
            self.left_out[why_not] += 1
            return
        self._kept[episode.episode_id] = self._reduce(steps)
        self._num_steps += len(steps)
        while self._num_steps > self.most_steps and len(self._kept) > 1:
            # By their ids, so that what is left is spread over the whole time.
            self._share /= 2
            self._kept = {
                name: kept for name, kept in self._kept.items() if is_logged(name, self._share)
            }
            self._num_steps = sum(len(each.actions) for each in self._kept.values())

    def played(self) -> Played:
        """All of them; one at least must be kept."""
        episodes = list(self._kept.values())
        lengths = np.array([len(each.actions) for each in episodes])
        audits = [each.audit for each in episodes]
        cells = [each.cells for each in episodes if each.cells is not None]
        return Played(
            observations=np.concatenate([each.observations for each in episodes]),
            cells=np.concatenate(cells) if cells else None,
            q_values=np.concatenate([each.q_values for each in episodes]),
            features=np.concatenate([each.features for each in episodes]),
            actions=np.concatenate([each.actions for each in episodes]),
            rewards=np.concatenate([each.rewards for each in episodes]),
            returns=np.array([each.rewards.sum() for each in episodes]),
            lengths=lengths,
            # An episode of which nothing was told cannot stand beside those of which it was.
            audits=None if None in audits else np.array(audits, dtype=np.float64),
        )

    def _why_not(self, episode: Episode, steps: list[Transition]) -> LeftOut | None:
        if not episode.is_complete or not steps:
            return "not whole"
        manifest = self.policy.manifest
        if {each.answered_by.version for each in steps} != {manifest.version}:
            return "of another version"
        by_model = sum(each.answered_by.source == "model" for each in steps)
        if by_model < _LEAST_MODEL_SHARE * len(steps):
            return "of the heuristic"
        if any(each.observation.shape != manifest.observation.shape for each in steps):
            return "without observations"
        if any(
            each.covers(episode.episode_id, episode.started_at, episode.ended_at)
            for each in self.quarantines
        ):
            return "quarantined"
        return None

    def _reduce(self, steps: list[Transition]) -> _Kept:
        steps = sorted(steps, key=lambda each: each.step)
        observations = np.stack([each.observation for each in steps])
        # Asked again rather than read: the log has Q-values in half precision and no features.
        q_values, features = self._ask(observations, _masks_of(steps, self.policy))
        return _Kept(
            observations=profiled_elements(observations),
            cells=frame_cells(observations),
            q_values=q_values,
            features=features,
            actions=np.array([each.action for each in steps], dtype=np.int64),
            rewards=np.array([each.reward for each in steps], dtype=np.float64),
            audit=None if self.audit is None else self.audit.total(_audits_of(steps)),
        )

    def _ask(
        self, observations: npt.NDArray[Any], masks: npt.NDArray[np.bool_] | None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        q_values, features = [], []
        for begin in range(0, len(observations), _ROWS_AT_ONCE):
            rows = slice(begin, begin + _ROWS_AT_ONCE)
            self.policy.gives_features = self.policy.manifest.num_features > 0
            decided = self.policy.decide(observations[rows], None if masks is None else masks[rows])
            q_values.append(decided.q_values)
            no_features = np.zeros((len(decided.actions), 0), dtype=np.float32)
            features.append(no_features if decided.features is None else decided.features)
        return np.concatenate(q_values), np.concatenate(features)


def shards_since(folder: Path, policy: str, since: float) -> list[Shard]:
    """A policy's shards and those of records that name none, in the order they were sealed."""
    found = []
    for name in (policy, UNNAMED):
        raw = raw_folder(folder, name)
        for number in shard_numbers(raw):
            path = shard_path(raw, number)
            manifest = read_manifest(path)
            if manifest.last_time >= since:
                found.append(Shard(path, manifest))
    return sorted(found, key=lambda each: (each.manifest.sealed_at, each.manifest.number))


def closed_episodes(
    shards: Iterable[Shard], policy: str, rules: JoinRules
) -> Iterator[tuple[Episode, list[Transition]]]:
    """Join the records of shards; each episode of the policy that closed, and its steps."""
    join = Join(rules)
    steps: dict[str, list[Transition]] = {}
    for shard in shards:
        items = join.close_silent(shard.manifest.first_time)
        for item in _join_all(join, items, (each for _, _, each in read_records(shard.path))):
            if item.policy != policy:
                continue
            if isinstance(item, Transition):
                # A decision without an episode, or an agent's own transition: nothing closes it.
                if not item.episode_id.startswith(("decision:", "transition:")):
                    steps.setdefault(item.episode_id, []).append(item)
            else:
                yield item, steps.pop(item.episode_id, [])


def _join_all(
    join: Join, items: list[Transition | Episode], records: Iterable[Record]
) -> Iterator[Transition | Episode]:
    yield from items
    for record in records:
        yield from join.add(record)


def _audits_of(steps: list[Transition]) -> list[float]:
    return [each.audit for each in steps if each.audit is not None]


def _masks_of(steps: list[Transition], policy: Policy) -> npt.NDArray[np.bool_] | None:
    if not policy.manifest.actions.masked:
        return None
    count = policy.manifest.actions.count
    every = legal_actions(None, 1, count)[0]
    masks = [each.circumstances.action_mask for each in steps]
    return np.stack([every if mask is None else mask for mask in masks])
