"""How many changes the ledger holds, by action: dashboards mark the moments at which one comes."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from contract.ledger import Entry
from service.metrics import Metrics

ACTIONS: Final = (
    *("promote", "rollback", "register", "canary", "stage", "guardrail", "abort", "pause"),
    *("resume", "shadow", "plan", "pin", "unpin", "freeze", "unfreeze", "retrain", "load_failed"),
)
"""What changes what serves, or will; the judge's snapshots and leases are no news."""


class LedgerGauges:
    """Owns the counts of all policies."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._counts: Counter[tuple[str, str]] = Counter()
        self._read = 0

    def show(self, policies: Iterable[str], entries: Sequence[Entry]) -> None:
        """Count what is new; a ledger that is shorter than it was has been put back."""
        if len(entries) < self._read:
            self._counts.clear()
            self._read = 0
        self._counts.update((each.policy, each.action) for each in entries[self._read :])
        self._read = len(entries)
        for policy in policies:
            for action in ACTIONS:
                # From the start, so that the first of its kind is a change of a series.
                gauge = self._metrics.counter("dqn_ledger_entries", policy, action)
                gauge.set(self._counts[policy, action])
