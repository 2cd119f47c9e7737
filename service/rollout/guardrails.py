"""What takes a canary off a worker's own traffic at once, without Redis and without a judge.

Each guardrail bets that the canary's rows fail oftener than stable's and a tolerance; it may be
looked at after every batch. It knows only this worker's rows.
"""

from math import log, log1p
from typing import Final, NamedTuple

from contract.sequential import log_mean_exp, rate_upper_bound

ALPHA: Final = 0.001
"""The chance that a guardrail ever takes off a canary that keeps within its tolerance."""
_STAKES: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_MOST_LOST: Final = 0.95
"""A stake that could lose more than this of its money on one row is not bet."""
_NEWS: Final = 1.1
"""The bound on stable's rate is computed anew when its rows have grown by so much."""

TOLERANCES: Final = {
    "nonfinite": 0.004,
    "error": 0.001,
    "deadline": 0.01,
    "q_bound": 0.004,
    "fallback": 0.004,
}
"""By how much of its rows a canary may fail oftener than stable; what says most comes first."""


class Rows(NamedTuple):
    """Rows of one batch, and how many of them failed in each way."""

    rows: int
    fallback: int = 0
    """Answered by the heuristic, for whatever reason of the model's."""
    nonfinite: int = 0
    error: int = 0
    """The call of the model failed."""
    deadline: int = 0
    """Not answered in time."""
    q_bound: int = 0
    """|Q| beyond the declared bound."""


class Fired(NamedTuple):
    """A guardrail that has enough evidence."""

    guardrail: str
    sentence: str


class Guardrail:
    """Owns the evidence on one way to fail."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._log_wealth = [0.0] * len(_STAKES)
        self._stable = [0, 0]
        self._canary = [0, 0]
        self._limit = 1.0
        self._limit_rows = 0

    def observe_stable(self, rows: int, failed: int) -> None:
        """Stable's rows set what is normal here."""
        self._stable[0] += rows
        self._stable[1] += failed
        # One that fails makes the bound larger, and is never kept waiting.
        if failed or self._stable[0] >= _NEWS * self._limit_rows:
            self._limit_rows = self._stable[0]
            bound = rate_upper_bound(self._stable[1], self._stable[0], ALPHA)
            self._limit = min(bound + TOLERANCES[self._name], 1.0)

    def observe_canary(self, rows: int, failed: int) -> Fired | None:
        """Bet on the canary's rows; what is said where that is enough."""
        self._canary[0] += rows
        self._canary[1] += failed
        for place, stake in enumerate(_STAKES):
            if stake * self._limit < _MOST_LOST:
                won = failed * log1p(stake * (1 - self._limit)) if failed else 0.0
                self._log_wealth[place] += won + (rows - failed) * log1p(-stake * self._limit)
        if failed and log_mean_exp(self._log_wealth) >= -log(ALPHA):
            return Fired(self._name, self._sentence())
        return None

    def _sentence(self) -> str:
        return (
            f"guardrail {self._name}: {self._canary[1]} of the canary's {self._canary[0]} rows "
            f"here, {self._stable[1]} of stable's {self._stable[0]}; over {1 / ALPHA:,.0f}x "
            f"evidence that it fails in more than {self._limit:.2%} of them"
        )


class Guardrails:
    """All of one trial in one worker."""

    def __init__(self, rollout_id: str) -> None:
        self.rollout_id = rollout_id
        self._guardrails = {name: Guardrail(name) for name in TOLERANCES}

    def observe_stable(self, found: Rows) -> None:
        """Take a batch that stable answered."""
        for name, guardrail in self._guardrails.items():
            guardrail.observe_stable(found.rows, getattr(found, name))

    def observe_canary(self, found: Rows) -> Fired | None:
        """Take a batch that the canary answered; the guardrail that fires, if one does."""
        fired = None
        for name, guardrail in self._guardrails.items():
            fired = fired or guardrail.observe_canary(found.rows, getattr(found, name))
        return fired
