"""Which episodes a trial compares, in which order; all of it outlives the process."""

from pathlib import Path
from typing import Final

import msgspec
import structlog

from contract.assignment import Variant, assign, split_in_force, time_in_id
from contract.evidence import Evidence, Snapshot
from contract.files import make_directory, replace_file
from contract.rollout import PolicyState, Rollout
from contract.transitions import Episode

_LONGEST_WAIT_SECONDS: Final = 900.0
"""An episode that runs for longer holds up no comparison of those that began after it."""

_log = structlog.get_logger(__name__)


class _Waiting(msgspec.Struct, frozen=True, array_like=True, order=True):
    """An episode of the trial that has ended, while one that began before it has not."""

    started_at: float
    episode_id: str
    variant: Variant
    episode_return: float
    canary_share: float


class _Kept(msgspec.Struct, frozen=True):
    rollout_id: str
    snapshot: Snapshot
    waiting: list[_Waiting]
    last_told: list[str]
    """Ids of the episodes of the last pass, which a crash may tell again."""


class Trial:
    """Owns the evidence of one rollout."""

    def __init__(self, rollout: Rollout, path: Path) -> None:
        """Goes on from the file at `path`, else from the ledger's snapshot, else from nothing."""
        self.rollout_id = rollout.rollout_id
        self._path = path
        kept = _read(path)
        self._waiting: list[_Waiting] = []
        self._told: set[str] = set()
        self._told_before: set[str] = set()
        snapshot = None
        if kept is not None and kept.rollout_id == rollout.rollout_id:
            snapshot = kept.snapshot
            self._waiting = list(kept.waiting)
            self._told_before = set(kept.last_told)
        elif rollout.evidence is not None:
            snapshot = msgspec.convert(rollout.evidence, Snapshot)
        self.evidence = Evidence(rollout.plan.margin, rollout.plan.return_range, snapshot)
        self._is_kept = False

    def take(self, episode: Episode, state: PolicyState, rollout: Rollout) -> None:
        """Look whether an episode that has ended is of the trial, and whose it is."""
        if episode.episode_id in self._told_before or episode.episode_id in self._told:
            return
        self._told.add(episode.episode_id)
        self._is_kept = False
        began_at = time_in_id(episode.episode_id) or episode.started_at
        split = split_in_force(state.splits, began_at)
        if split is None or split.salt != rollout.rollout_id or began_at < split.effective_at:
            return
        assigned = assign(state.splits, episode.episode_id, began_at)
        versions = {each.version for each in episode.answered_by}
        if assigned.canary_share <= 0:
            return
        if versions != {assigned.version}:
            # It was moved while it ran, or no model stood: what it earned is no one version's.
            self.evidence.left_out += 1
            return
        self._waiting.append(
            _Waiting(
                episode.started_at,
                episode.episode_id,
                assigned.variant,
                episode.episode_return,
                assigned.canary_share,
            )
        )

    def compare(self, now: float, open_since: float | None) -> None:
        """Compare, in the order in which they began, those that none still open came before.

        Else short episodes would come first, and a policy that ends them soon look better or worse
        than it is.
        """
        limit = now if open_since is None else max(open_since, now - _LONGEST_WAIT_SECONDS)
        self._waiting.sort()
        ready = [each for each in self._waiting if each.started_at < limit]
        self._waiting = self._waiting[len(ready) :]
        self._is_kept = self._is_kept and not ready
        for each in ready:
            self.evidence.add(each.variant, each.episode_return, each.canary_share)

    def keep(self) -> None:
        """Write all of it down; to be called once a pass, before the pass counts as done."""
        if self._is_kept:
            return
        kept = _Kept(self.rollout_id, self.evidence.snapshot(), self._waiting, sorted(self._told))
        make_directory(self._path.parent)
        replace_file(self._path, msgspec.json.encode(kept))
        self._told_before, self._told = self._told, set()
        self._is_kept = True


def _read(path: Path) -> _Kept | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Kept)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        _log.warning("evidence_unreadable", path=str(path), error=str(error))
        return None
