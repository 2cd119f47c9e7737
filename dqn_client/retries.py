"""When a call is made again, and when it is given up: decided here, slept and sent elsewhere.

`attempts` is a generator that neither sends nor sleeps: the client and the asynchronous client
drive the same one.
"""

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from dqn_client.messages import Call, ClientError, refusal

_OK: Final = 200


@dataclass
class RetryBudget:
    """Retries that a client may still make: so many for each call that it makes, and no more.

    A client that tries every call three times triples the load of a server that is already failing;
    with a budget of a tenth it adds a tenth.
    """

    per_call: float = 0.1
    """What one call adds."""
    most: float = 10.0
    """What can be saved up."""
    _left: float = field(default=10.0, init=False)

    def note_call(self) -> None:
        """A call begins."""
        self._left = min(self._left + self.per_call, self.most)

    def take(self) -> bool:
        """Whether one more retry may be made; it counts as made."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


@dataclass(frozen=True)
class RetryPolicy:
    """How often, and how long to wait before."""

    attempts: int = 3
    """In all, the first one included."""
    first_pause_seconds: float = 0.05
    """The longest pause before the second attempt; it doubles from there."""
    longest_pause_seconds: float = 2.0

    def pause_seconds(self, attempt: int, rng: random.Random) -> float:
        """Before attempt 2, 3, …: anything up to the longest, so that clients do not march."""
        longest = min(self.first_pause_seconds * 2 ** (attempt - 2), self.longest_pause_seconds)
        return rng.uniform(0.0, longest)


DEFAULT_RETRIES: Final = RetryPolicy()


class Send(NamedTuple):
    """Send the call; answer with a `Response` or a `Failure`."""

    content: bytes | None
    timeout_seconds: float


class Sleep(NamedTuple):
    """Wait; answer with None."""

    seconds: float


class Response(NamedTuple):
    """What came back."""

    status: int
    content: bytes
    retry_after_seconds: float | None


class Failure(NamedTuple):
    """Nothing came back."""

    message: str
    was_sent: bool
    """Whether the server may have acted on it."""


Attempts = Generator[Send | Sleep, Response | Failure | None, bytes]


def attempts(
    call: Call,
    policy: RetryPolicy,
    budget: RetryBudget,
    patience_seconds: float,
    clock: Callable[[], float],
    rng: random.Random,
) -> Attempts:
    """Send a call until it is answered, refused for good, or the caller's patience is over.

    Args:
        call: What to send.
        policy: How often.
        budget: Of the client.
        patience_seconds: After which the caller has no use for the answer.
        clock: Seconds, monotonic.
        rng: For the pauses.

    Raises:
        ClientError: The service refused, or could not be reached in time.
    """
    until = clock() + patience_seconds
    budget.note_call()
    for attempt in range(1, policy.attempts + 1):
        remaining = until - clock()
        came = yield Send(call.content(remaining), remaining)
        if isinstance(came, Response) and came.status == _OK:
            return came.content
        error, may_repeat = _judge(came, call)
        if attempt == policy.attempts or not may_repeat:
            raise error
        pause = policy.pause_seconds(attempt + 1, rng)
        if isinstance(came, Response) and came.retry_after_seconds is not None:
            pause = max(pause, came.retry_after_seconds)
        if clock() + pause >= until or not budget.take():
            raise error
        yield Sleep(pause)
    raise ValueError(f"attempts {policy.attempts}: expected at least one")


def parse_retry_after(value: str | None) -> float | None:
    """The header's seconds; None where it is missing or a date, which the service never sends."""
    return float(value) if value is not None and value.isdigit() else None


def _judge(came: Response | Failure | None, call: Call) -> tuple[ClientError, bool]:
    """What to raise, and whether the call may be made again first."""
    match came:
        case Response(status, content):
            error = refusal(status, content)
            return error, error.is_transient
        case Failure(message, was_sent):
            return ClientError(message, is_transient=True), call.can_repeat or not was_sent
    raise TypeError(f"expected what came of the call, found {came!r}")
