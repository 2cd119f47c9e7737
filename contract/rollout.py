"""The rollout state of a policy: which version serves whom, and what is under trial."""

from dataclasses import dataclass, field
from typing import Any, Literal

from contract.assignment import Split, with_split
from contract.plan import RolloutPlan

Outcome = Literal["open", "promoted", "rolled_back", "aborted", "invalid"]
Verdict = Literal["promote", "roll_back", "undecided"]


@dataclass(frozen=True)
class Lease:
    """Who judges, until when."""

    holder: str
    until: float
    """Unix seconds."""


@dataclass(frozen=True)
class Rollout:
    """One trial of a version against the stable one."""

    rollout_id: str
    """Also the salt of its assignment."""
    kind: Literal["canary", "holdback"]
    """A holdback is a trial of the previous version after a promotion, to be looked at only."""
    version: int
    against: int
    """The stable version when it began."""
    plan: RolloutPlan
    opened_at: float
    stage_since: float
    judged_at: float
    """When the judge was last heard of."""
    share: float
    stage: int = 0
    is_paused: bool = False
    outcome: Outcome = "open"
    verdict: Verdict = "undecided"
    sentence: str = "no episode has been compared yet"
    evidence: dict[str, Any] | None = None
    """The judge's last snapshot."""
    closed_at: float | None = None

    @property
    def is_open(self) -> bool:
        """It takes traffic, or waits to."""
        return self.outcome == "open"

    @property
    def is_last_stage(self) -> bool:
        """There is no larger share to come."""
        return self.stage == len(self.plan.stages) - 1


@dataclass(frozen=True)
class PolicyState:
    """The rollout state of one policy."""

    stable: int | None = None
    """The version that operators want to serve."""
    previous: int | None = None
    shadow: int | None = None
    """Sees a share of the traffic and answers nothing."""
    shadow_share: float = 0.0
    registered: int | None = None
    """Registered last: every replica loads it, so that it can become an alias at once."""
    is_pinned: bool = False
    """The heuristic answers, whatever is stable."""
    is_frozen: bool = False
    """No promotion, ramp or new canary until it is lifted; a rollback always may be."""
    plan: RolloutPlan = field(default_factory=RolloutPlan)
    """Of the canaries to come."""
    rollout: Rollout | None = None
    """The one that is open, else the last one."""
    lease: Lease | None = None
    splits: tuple[Split, ...] = ()
    """Oldest first."""
    changed_at: str | None = None
    not_understood: int | None = None
    """Position of the last entry that this release could make nothing of."""

    @property
    def open_rollout(self) -> Rollout | None:
        """The trial under way."""
        return self.rollout if self.rollout is not None and self.rollout.is_open else None

    @property
    def canary(self) -> int | None:
        """The version on trial."""
        trial = self.open_rollout
        return None if trial is None else trial.version

    def wanted(self, most: int) -> list[int]:
        """Versions to hold: those with a name first, then those that open episodes may be on."""
        named = [self.stable, self.canary, self.previous, self.shadow, self.registered]
        recent = [each for split in reversed(self.splits) for each in (split.stable, split.canary)]
        found = dict.fromkeys(each for each in (*named, *recent) if each is not None)
        return list(found)[:most]

    def traffic(self, now: float) -> tuple[Split, ...]:
        """How episodes are split; without a judge for too long, new ones are all stable's."""
        trial = self.open_rollout
        if trial is None or not self.splits:
            return self.splits
        stops_at = trial.judged_at + trial.plan.judge_away_stop_seconds
        if now < stops_at:
            return self.splits
        stopped = self.splits[-1]._replace(effective_at=stops_at, canary_share=0.0)
        return with_split(self.splits, stopped)
