"""Episodes that earned their reward in a way that training never did, kept out of retraining."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from contract.conduct import ConductReference, Signs, highest_return, signs_of
from contract.drift_reference import Floats
from recorder.dataset.quarantine import add_quarantine
from recorder.dataset.store import DatasetStore
from recorder.traces import Trace

Check = Literal["reward_range", "loop", "reward_distribution", "unearned_length", "unearned_audit"]
CHECKS: Final[tuple[Check, ...]] = (
    "reward_range",
    "loop",
    "reward_distribution",
    "unearned_length",
    "unearned_audit",
)

Audit = Callable[[Trace], float | None]
"""How an episode did in something that its reward does not pay for; None where that is unknown."""

_WINDOW_EPISODES: Final = 500
_MIN_EPISODES: Final = 100


@dataclass(frozen=True)
class Caught:
    """An episode that is not to be learned from, and why."""

    policy: str
    episode_id: str
    started_at: float
    ended_at: float
    checks: tuple[Check, ...]

    @property
    def why(self) -> str:
        """For the quarantine's entry."""
        return f"episode {self.episode_id}: {', '.join(self.checks)} beyond training's"


def find_hacks(signs: Signs, reference: ConductReference) -> tuple[Check, ...]:
    """The checks that an episode does not pass."""
    by_audit = reference.returns_by_audit
    earns = signs.episode_return >= reference.lowest_earning_return
    found: dict[Check, bool] = {
        "reward_range": signs.largest_reward > reference.highest_reward,
        "loop": earns and signs.loop_share > reference.highest_loop_share,
        "reward_distribution": earns and signs.reward_distance > reference.highest_reward_distance,
        "unearned_length": signs.episode_return
        > highest_return(reference.returns_by_length, signs.length),
        "unearned_audit": by_audit is not None
        and signs.audit is not None
        and signs.episode_return > highest_return(by_audit, signs.audit),
    }
    return tuple(check for check in CHECKS if found[check])


def quarantine_in(store: DatasetStore) -> Callable[[Caught], None]:
    """Leaves what is caught out of all that is loaded from a dataset, until somebody lifts it."""

    def quarantine(caught: Caught) -> None:
        add_quarantine(
            store,
            caught.policy,
            begin=caught.started_at,
            end=math.nextafter(caught.ended_at, math.inf),
            who="recorder",
            why=caught.why,
            now=caught.ended_at,
            episode_id=caught.episode_id,
        )

    return quarantine


class HackingChecks:
    """Judges every closed episode of one policy and hands on those that are caught."""

    def __init__(
        self,
        reference_of: Callable[[int | None], ConductReference | None],
        quarantine: Callable[[Caught], None],
        audit: Audit | None = None,
    ) -> None:
        """Watch nothing yet.

        Args:
            reference_of: A version's reference; None where it is not armed.
            quarantine: Keeps an episode out of what is learned from.
            audit: None where nothing but the reward is known.
        """
        self._reference_of = reference_of
        self._quarantine = quarantine
        self._audit = audit
        self._pairs: deque[tuple[float, float]] = deque(maxlen=_WINDOW_EPISODES)
        self.counts: dict[Check, int] = dict.fromkeys(CHECKS, 0)
        self.num_judged = 0

    @property
    def audit_correlation(self) -> float | None:
        """Of returns with the audit, by rank, over 500 episodes; None below 100.

        It falls where returns rise by what the audit does not see.
        """
        if len(self._pairs) < _MIN_EPISODES:
            return None
        returns, audits = np.array(self._pairs).T
        return rank_correlation(returns, audits)

    def add(self, trace: Trace) -> Caught | None:
        """Judge one episode. Parts of episodes are not judged."""
        version = trace.answered_by[0].version if trace.answered_by else None
        if not trace.is_complete:
            return None
        audit = None if self._audit is None else self._audit(trace)
        if audit is not None:
            self._pairs.append((trace.episode_return, audit))
        reference = self._reference_of(version)
        if reference is None:
            return None
        signs = signs_of(trace.rewards, trace.actions, trace.cells, reference, audit)
        self.num_judged += 1
        checks = find_hacks(signs, reference)
        if not checks:
            return None
        for check in checks:
            self.counts[check] += 1
        caught = Caught(trace.policy, trace.episode_id, trace.started_at, trace.ended_at, checks)
        self._quarantine(caught)
        return caught


def rank_correlation(first: Floats, second: Floats) -> float:
    """Spearman's, ties sharing their mean rank; 0 where one of the two never varies."""
    ranks = [_mean_ranks(values) for values in (first, second)]
    spreads = [each.std() for each in ranks]
    if min(spreads) == 0:
        return 0.0
    return float(
        np.mean(np.prod([each - each.mean() for each in ranks], axis=0)) / np.prod(spreads)
    )


def _mean_ranks(values: Floats) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)
