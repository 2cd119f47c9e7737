"""Follows the ledger and writes to it; the only code of the service that does either."""

import asyncio

from contract.ledger import Entry, FileLedger, LedgerMovedError, append_latest
from service.errors import ConflictError
from service.rollout.state import PolicyState, fold


class Rollout:
    """Owns the ledger's reader and the fold of what it has read. Lives on the event loop."""

    def __init__(self, ledger: FileLedger) -> None:
        self._ledger = ledger
        # The ledger's file is read and fsynced in a thread, by one call at a time.
        self._lock = asyncio.Lock()
        self.entries: list[Entry] = []
        self.states: dict[str, PolicyState] = {}

    def state(self, policy: str) -> PolicyState:
        """What the ledger says of a policy, as far as it was read."""
        return self.states.get(policy, PolicyState())

    async def catch_up(self) -> None:
        """Read what others have written.

        Raises:
            LedgerError: The ledger holds a line that is not an entry.
        """
        async with self._lock:
            self._take(await asyncio.to_thread(self._ledger.read_after, len(self.entries)))

    async def record(self, entry: Entry) -> Entry:
        """Append a fact: something that happened, whatever else did meanwhile."""
        async with self._lock:
            written = await asyncio.to_thread(append_latest, self._ledger, entry)
            self._take(await asyncio.to_thread(self._ledger.read_after, len(self.entries)))
            return written

    async def change(self, entry: Entry, expected_stable: int | None = None) -> Entry:
        """Append a change that was decided on the state as read.

        Raises:
            ConflictError: Stable is not what the caller expected, or the ledger moved meanwhile.
        """
        await self.catch_up()
        stable = self.state(entry.policy).stable
        if expected_stable is not None and stable != expected_stable:
            raise ConflictError(
                f"stable of {entry.policy} is {stable}, expected_stable is {expected_stable}"
            )
        async with self._lock:
            try:
                written = await asyncio.to_thread(self._ledger.append, entry, len(self.entries))
            except LedgerMovedError as error:
                raise ConflictError(f"somebody else changed the rollout: {error}") from error
            self._take(await asyncio.to_thread(self._ledger.read_after, len(self.entries)))
            return written

    def _take(self, entries: list[Entry]) -> None:
        self.states = fold(entries, self.states)
        self.entries += entries
