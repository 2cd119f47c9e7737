"""One ledger for many machines: a stream in Redis, and a durable copy beside each repository.

The copy is what is served by. A stream that is empty, evicted or restored from an old backup is
filled again from the copies and changes nothing; one with another past is not followed. Without the
stream a replica goes on by its copy and takes the orders that can only make things safer; they are
appended once the stream is back.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from contract.files import replace_file
from contract.ledger import Entry, FileLedger, LedgerError, LedgerMovedError

SAFE_ACTIONS: Final = frozenset({"rollback", "abort", "pin", "freeze", "pause", "guardrail"})
"""Orders that a replica takes while it is cut off."""

_APPEND: Final = """
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local position = 0
if last[1] then position = tonumber(string.match(last[1][1], '^%d+')) end
if position ~= tonumber(ARGV[1]) then return position end
redis.call('XADD', KEYS[1], string.format('%d-0', position + 1), 'entry', ARGV[2])
return -1
"""


class Stream(Protocol):
    """Where entries are shared; its calls raise OSError where it cannot be reached."""

    def position(self) -> int:
        """Of the last entry; 0 where there is none."""

    def read_after(self, position: int) -> list[Entry]:
        """Entries above a position."""

    def append(self, entry: Entry) -> bool:
        """Append an entry that has its position; False where the stream has moved."""


class RedisStream:
    """A Redis stream whose ids are positions. The client is the caller's: this imports no redis."""

    def __init__(self, client: Any, key: str, errors: tuple[type[Exception], ...]) -> None:
        """`errors` are what the client raises where Redis is away."""
        self._client = client
        self._key = key
        self._errors = errors

    def position(self) -> int:
        """Of the last entry; 0 where there is none."""
        last = self._call("xrevrange", self._key, "+", "-", 1)
        return int(last[0][0].split(b"-")[0]) if last else 0

    def read_after(self, position: int) -> list[Entry]:
        """Entries above a position."""
        found = self._call("xrange", self._key, f"({position}-0" if position else "-", "+")
        try:
            return [msgspec.json.decode(fields[b"entry"], type=Entry) for _, fields in found]
        except (KeyError, msgspec.DecodeError) as error:
            raise LedgerError(f"{self._key}: {error!r}") from error

    def append(self, entry: Entry) -> bool:
        """Append at the entry's position; False where the stream's end is elsewhere."""
        line = msgspec.json.encode(entry)
        moved = self._call("eval", _APPEND, 1, self._key, entry.position - 1, line)
        return int(moved) == -1

    def _call(self, name: str, *arguments: Any) -> Any:
        try:
            return getattr(self._client, name)(*arguments)
        except self._errors as error:
            raise OSError(f"the shared ledger is away: {error}") from error


class SharedLedger:
    """Follows the stream, keeps the copy, and holds the orders taken while cut off."""

    def __init__(self, stream: Stream, copy: FileLedger, orders: Path) -> None:
        """`orders` is a file of this replica's own."""
        self._stream = stream
        self._copy = copy
        self._orders_path = orders
        self._orders = _read_orders(orders)
        self._generation = 0
        self._fault: str | None = None

    @property
    def fault(self) -> str | None:
        """Why the stream is not followed; None while it is."""
        return self._fault

    @property
    def generation(self) -> int:
        """Goes up when orders taken while cut off have found their place."""
        return self._generation

    @property
    def position(self) -> int:
        """Of the last entry known, orders that wait included."""
        return self._copy.position + len(self._orders)

    def read_after(self, position: int) -> list[Entry]:
        """Entries above a position; without the stream those that are known.

        Raises:
            LedgerError: The copy is damaged. A stream with another past is only told of.
        """
        self._follow()
        return [*self._copy.read_after(0), *self._waiting_orders()][position:]

    def append(self, entry: Entry, after: int) -> Entry:
        """Append, for all replicas to read; while cut off, for this one alone.

        Raises:
            LedgerMovedError: The last position is no longer `after`.
            LedgerError: This replica is cut off, and the order is not one that it takes then.
            ValueError: The key was used for another change of this policy.
        """
        self._follow()
        known = self._copy.find_key(entry)
        if known is not None:
            return known
        if self.position != after:
            raise LedgerMovedError(f"at position {self.position}, expected {after}")
        at = entry.at or datetime.now(UTC).isoformat(timespec="milliseconds")
        entry = msgspec.structs.replace(entry, position=after + 1, at=at)
        if self._fault is None:
            try:
                if not self._stream.append(entry):
                    raise LedgerMovedError(f"another entry took position {after + 1}")
            except OSError as error:
                self._fault = str(error)
            else:
                self._copy.adopt([entry])
                return entry
        if entry.action not in SAFE_ACTIONS:
            raise LedgerError(f"cut off from the other replicas ({self._fault}): {entry.action}")
        self._set_orders([*self._orders, entry])
        return entry

    def _follow(self) -> None:
        """Bring stream and copy to the same end, the longer one's."""
        try:
            known = self._copy.read_after(0)
            shared = self._stream.position()
            # The last entry that both have tells whether their past is the same.
            common = min(shared, len(known))
            found = self._stream.read_after(max(common - 1, 0))
            self._copy.adopt(found)
            for entry in known[shared:]:
                if not self._stream.append(entry):
                    # Another replica fills it with the same entries; the next look finds out.
                    break
            self._place_orders()
            self._fault = None
        except (OSError, LedgerError) as error:
            self._fault = str(error)

    def _place_orders(self) -> None:
        if not self._orders:
            return
        orders = list(self._orders)
        while orders:
            position = self._copy.position + 1
            entry = msgspec.structs.replace(orders[0], position=position)
            if not self._stream.append(entry):
                self._copy.adopt(self._stream.read_after(self._copy.position))
                continue
            self._copy.adopt([entry])
            orders.pop(0)
        self._set_orders([])
        self._generation += 1

    def _waiting_orders(self) -> list[Entry]:
        end = self._copy.position
        return [
            msgspec.structs.replace(entry, position=end + number)
            for number, entry in enumerate(self._orders, 1)
        ]

    def _set_orders(self, orders: Sequence[Entry]) -> None:
        replace_file(self._orders_path, msgspec.json.encode(list(orders)))
        self._orders = list(orders)


def _read_orders(path: Path) -> list[Entry]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Entry])
    except FileNotFoundError:
        return []
    except msgspec.DecodeError as error:
        raise LedgerError(f"{path}: {error}") from error
