"""What takes a canary off a worker's own traffic at once, without Redis and without a judge.

Each guardrail bets that the canary fails oftener than stable and a tolerance, from now on: one that
turns bad after thousands of good rows is found as one that is bad from the start. It may be looked
at after every batch. It knows only this worker's rows.
"""

from collections.abc import Sequence
from math import log1p
from typing import Final, NamedTuple

from contract.assignment import Variant
from contract.sequential import ChangeWagers, rate_upper_bound

ALPHA: Final = 0.001
"""The chance that a guardrail ever takes off a canary that keeps within its tolerance."""
_EXCESSES: Final = (0.95, 0.5, 0.2, 0.1, 0.05, 0.02)
"""Each stake is the best one against a canary that fails in so many more of its rows."""
_MONEY: Final = (0.5, 0.1, 0.1, 0.1, 0.1, 0.1)
_NEWS: Final = 1.1
"""The bound on stable's rate is computed anew when its rows have grown by so much."""

TOLERANCES: Final = {
    "nonfinite": 0.002,
    "error": 0.001,
    "deadline": 0.01,
    "q_bound": 0.004,
    "fallback": 0.004,
}
"""By how much a canary may fail oftener than stable; what says most comes first."""
_BY_ROW: Final = frozenset({"nonfinite", "q_bound"})
"""Here a row fails for itself; otherwise a call fails, and all rows of it are one failure."""
_PRESUMED: Final = {"nonfinite": 0.01}
"""Stable's rate at most, while it has not failed here: what is proven and serves is no NaN."""

_WINDOW_SECONDS: Final = 0.25
_PAIRED_STAKES: Final = (0.1, 0.35, 0.7, 0.95)


class Rows(NamedTuple):
    """Rows of one call of the model, and how many of them failed in each way."""

    rows: int
    fallback: int = 0
    """Answered by the heuristic, for a fault of the model's: any of those below."""
    nonfinite: int = 0
    error: int = 0
    """The call of the model failed."""
    q_bound: int = 0
    """|Q| beyond the declared bound."""


class Call(NamedTuple):
    """One call of a model."""

    variant: str
    is_too_long: bool
    """By itself it took longer than those who waited for it could wait."""


class Fired(NamedTuple):
    """A guardrail that has enough evidence."""

    guardrail: str
    sentence: str


class Guardrail:
    """Owns the evidence on one way to fail."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._wagers = ChangeWagers(_MONEY)
        self._seen = {"stable": [0, 0], "canary": [0, 0]}
        """Rows, and how many of them failed."""
        self._trials = 0
        self._hits = 0.0
        """Of stable: rows, or calls where the failing share of a call's rows is its hit."""
        self._set_limit(1.0)
        self._limit_trials = 0
        self._bound()

    def observe_stable(self, rows: int, failed: int) -> None:
        """What stable answered sets what is normal here."""
        self._count("stable", rows, failed)
        is_by_row = self._name in _BY_ROW
        self._trials += rows if is_by_row else 1
        self._hits += failed if is_by_row else failed / rows
        # One that fails makes the bound larger, and is never kept waiting.
        if failed or self._trials >= _NEWS * self._limit_trials:
            self._bound()

    def observe_canary(self, rows: int, failed: int) -> Fired | None:
        """Bet on one call of the canary's; what is said where that is enough."""
        self._count("canary", rows, failed)
        if self._limit >= 1:
            return None
        if self._name in _BY_ROW:
            good = rows - failed
            growths = [
                good * lost + failed * won for lost, won in zip(self._lost, self._won, strict=True)
            ]
            self._wagers.bet(growths, rows)
        else:
            share = failed / rows
            self._wagers.bet([log1p(e * (share / self._limit - 1)) for e in _EXCESSES])
        if failed and self._wagers.evidence >= 1 / ALPHA:
            return Fired(self._name, self._sentence())
        return None

    def _count(self, variant: Variant, rows: int, failed: int) -> None:
        self._seen[variant][0] += rows
        self._seen[variant][1] += failed

    def _bound(self) -> None:
        self._limit_trials = self._trials
        bound = rate_upper_bound(self._hits, self._trials, ALPHA) if self._trials else 1.0
        if not self._hits:
            bound = min(bound, _PRESUMED.get(self._name, 1.0))
        self._set_limit(min(bound + TOLERANCES[self._name], 1.0))

    def _set_limit(self, limit: float) -> None:
        self._limit = limit
        self._lost = [log1p(-excess) for excess in _EXCESSES]
        self._won = [log1p(excess * (1 / limit - 1)) for excess in _EXCESSES]

    def _sentence(self) -> str:
        (stable, stable_failed), (canary, failed) = self._seen["stable"], self._seen["canary"]
        return (
            f"guardrail {self._name}: {failed} of the canary's {canary} rows here, "
            f"{stable_failed} of stable's {stable}; over {1 / ALPHA:,.0f}x evidence that it fails "
            f"in more than {self._limit:.2%} of them"
        )


class DeadlineGuardrail:
    """Owns the evidence that the canary's calls take too long.

    What makes calls slow comes in bursts and strikes both versions: a moment at a time is compared
    with stable's calls of the same moment, so that a machine that stands still condemns nobody.
    """

    def __init__(self) -> None:
        self._stakes = [stake / (1 + TOLERANCES["deadline"]) for stake in _PAIRED_STAKES]
        self._wagers = ChangeWagers([1 / len(self._stakes)] * len(self._stakes))
        self._seen = {"stable": [0, 0], "canary": [0, 0]}
        self._window = {"stable": [0, 0], "canary": [0, 0]}
        self._began_at = 0.0

    def observe(self, calls: Sequence[Call], now: float) -> Fired | None:
        """Take the calls of one batch; `now` in seconds of a monotonic clock."""
        fired = None
        if now - self._began_at >= _WINDOW_SECONDS:
            fired = self._close()
            self._began_at = now
            self._window = {"stable": [0, 0], "canary": [0, 0]}
        for call in calls:
            self._window[call.variant][0] += 1
            self._window[call.variant][1] += call.is_too_long
        return fired

    def _close(self) -> Fired | None:
        for variant, (calls, failed) in self._window.items():
            self._seen[variant][0] += calls
            self._seen[variant][1] += failed
        # Where stable had no call just now, what it had before is what is normal.
        stable = self._window["stable"] if self._window["stable"][0] else self._seen["stable"]
        calls, failed = self._window["canary"]
        if not calls or not stable[0]:
            return None
        payoff = failed / calls - stable[1] / stable[0] - TOLERANCES["deadline"]
        self._wagers.bet([log1p(stake * payoff) for stake in self._stakes])
        if failed and self._wagers.evidence >= 1 / ALPHA:
            return Fired("deadline", self._sentence())
        return None

    def _sentence(self) -> str:
        (stable, stable_failed), (canary, failed) = self._seen["stable"], self._seen["canary"]
        return (
            f"guardrail deadline: {failed} of the canary's {canary} calls here took longer than "
            f"their deadline, {stable_failed} of stable's {stable}; over {1 / ALPHA:,.0f}x "
            "evidence that they do so oftener than stable's of the same moments"
        )


class Guardrails:
    """All of one trial in one worker."""

    def __init__(self, rollout_id: str) -> None:
        self.rollout_id = rollout_id
        self._deadline = DeadlineGuardrail()
        self._guardrails = {name: Guardrail(name) for name in TOLERANCES if name != "deadline"}

    def observe_stable(self, found: Rows) -> None:
        """Take what stable answered in one batch."""
        for name, guardrail in self._guardrails.items():
            guardrail.observe_stable(found.rows, getattr(found, name))

    def observe_canary(self, found: Rows) -> Fired | None:
        """Take what the canary answered in one batch; the guardrail that fires, if one does."""
        fired = None
        for name, guardrail in self._guardrails.items():
            fired = fired or guardrail.observe_canary(found.rows, getattr(found, name))
        return fired

    def observe_calls(self, calls: Sequence[Call], now: float) -> Fired | None:
        """Take how long the calls of one batch took."""
        return self._deadline.observe(calls, now)
