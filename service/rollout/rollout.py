"""Follows the ledger and writes to it; the only code of the service that does either."""

import asyncio
from collections.abc import Callable
from typing import Final

from contract.fold import fold
from contract.ledger import Entry, Ledger, LedgerError, LedgerMovedError, append_latest
from contract.rollout import PolicyState
from service.errors import ConflictError, LedgerAwayError

Allow = Callable[[PolicyState], None]
"""Raises ConflictError where a state does not allow a change."""

_ATTEMPTS: Final = 20


class Rollout:
    """Owns the ledger's reader and the fold of what it has read. Lives on the event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._generation = ledger.generation
        # The ledger's file is read and fsynced in a thread, by one call at a time.
        self._lock = asyncio.Lock()
        self.entries: list[Entry] = []
        self.states: dict[str, PolicyState] = {}

    @property
    def fault(self) -> str | None:
        """Why what other replicas write is not read at present."""
        return self._ledger.fault

    def state(self, policy: str) -> PolicyState:
        """What the ledger says of a policy, as far as it was read."""
        return self.states.get(policy, PolicyState())

    async def catch_up(self) -> None:
        """Read what others have written.

        Raises:
            LedgerError: The ledger holds a line that is not an entry.
        """
        async with self._lock:
            await self._read()

    async def record(self, entry: Entry) -> Entry:
        """Append a fact: something that happened, whatever else did meanwhile."""
        async with self._lock:
            written = await asyncio.to_thread(append_latest, self._ledger, entry)
            await self._read()
            return written

    async def change(self, entry: Entry, allow: Allow) -> Entry:
        """Append a change that `allow` finds right on the very state it is appended to.

        Raises:
            ConflictError: `allow` raised it, the key is another change's, or the ledger keeps
                moving.
            LedgerAwayError: It cannot be written down, and is not of the kind that this replica
                takes while it is cut off.
        """
        try:
            return await self._change(entry, allow)
        except (LedgerError, OSError) as error:
            raise LedgerAwayError(f"{entry.action} is not done: {error}") from error

    async def _change(self, entry: Entry, allow: Allow) -> Entry:
        for _ in range(_ATTEMPTS):
            await self.catch_up()
            async with self._lock:
                allow(self.state(entry.policy))
                try:
                    written = await asyncio.to_thread(self._ledger.append, entry, len(self.entries))
                except LedgerMovedError:
                    # Most often by a worker that noted a load; the state may still allow it.
                    continue
                except ValueError as error:
                    raise ConflictError(str(error)) from error
                await self._read()
                return written
        raise ConflictError("others keep changing the rollout; try again")

    async def find(self, policy: str, key: str | None) -> Entry | None:
        """The change of this policy that was made under an idempotency key."""
        if key is None:
            return None
        await self.catch_up()
        made = (each for each in self.entries if (each.policy, each.key) == (policy, key))
        return next(made, None)

    async def _read(self) -> None:
        entries = await asyncio.to_thread(self._ledger.read_after, len(self.entries))
        if self._ledger.generation != self._generation:
            self._generation = self._ledger.generation
            self.entries, self.states = [], {}
            entries = await asyncio.to_thread(self._ledger.read_after, 0)
        self._take(entries)

    def _take(self, entries: list[Entry]) -> None:
        self.states = fold(entries, self.states)
        self.entries += entries
