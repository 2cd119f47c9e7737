"""Rewards, returns, and how well outcomes join, as metrics."""

from collections import Counter
from typing import Final

from contract.join import Counted, Join
from contract.transitions import Episode, Transition
from recorder.metrics import RESULTS, VARIANTS, RecorderMetrics

_RATIO_OF: Final = 10_000


class RewardMetrics:
    """A consumer that counts."""

    def __init__(self, metrics: RecorderMetrics) -> None:
        self._metrics = metrics
        self._seen: set[str] = set()
        self._counted: Counter[Counted] = Counter()
        self._given_up: Counter[str] = Counter()
        self._joined: Counter[str] = Counter()
        self._unreported: Counter[str] = Counter()

    def on_transition(self, transition: Transition) -> None:
        """A step was joined."""
        policy = transition.policy
        self._add_policy(policy)
        variant = _variant_of(transition.answered_by.variant)
        self._metrics.reward.observe(transition.reward, policy, variant)
        lag_seconds = max(0.0, transition.reported_at - transition.time)
        self._metrics.outcome_lag.labels(policy).observe(lag_seconds)
        self._joined[policy] += 1

    def on_episode(self, episode: Episode) -> None:
        """An episode was closed; one that is not complete has no return to speak of."""
        self._add_policy(episode.policy)
        if episode.is_complete:
            variant = variant_of(episode)
            self._metrics.episode_return.observe(episode.episode_return, episode.policy, variant)

    def on_pass(self, now: float, join: Join) -> None:
        """Take over what the join has counted since the last pass."""
        for result in RESULTS:
            self._metrics.outcomes.labels(result).inc(join.counts[result] - self._counted[result])
        evicted = join.counts["evicted"] - self._counted["evicted"]
        self._metrics.episodes_evicted.inc(evicted)
        self._counted = Counter(join.counts)
        self._unreported.update(join.unreported - self._given_up)
        self._given_up = Counter(join.unreported)
        for policy in self._joined | self._unreported:
            self._add_policy(policy)
            joined, total = self._joined[policy], self._joined[policy] + self._unreported[policy]
            self._metrics.join_ratio.labels(policy).set(joined / total)
            if total > _RATIO_OF:
                # The older half counts half from now on.
                self._joined[policy] = joined // 2
                self._unreported[policy] = (total - joined) // 2

    def _add_policy(self, policy: str) -> None:
        if policy not in self._seen:
            self._seen.add(policy)
            self._metrics.add_policy(policy)


def variant_of(episode: Episode) -> str:
    """The variant whose model acted first in an episode; else who acted first."""
    ordered = sorted(episode.answered_by, key=lambda each: each.source != "model")
    return _variant_of(ordered[0].variant if ordered else "stable")


def _variant_of(name: str) -> str:
    # A label's values are a closed set, whatever a record says.
    return name if name in VARIANTS else "stable"
