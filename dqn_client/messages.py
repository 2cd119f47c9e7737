"""What goes over the wire, typed, and how it is put into bytes. Nothing here opens a connection."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

MAX_DEADLINE_SECONDS: Final = 1.0
"""The longest that a server's settings allow by default."""
_SHARE_FOR_SERVER: Final = 0.8
"""Of an agent's patience; the rest is for the way there and back."""


class ClientError(Exception):
    """The service refused, or could not be reached."""

    def __init__(
        self,
        message: str,
        status: int | None = None,
        code: str | None = None,
        *,
        is_transient: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status; None where no answer came."""
        self.code = code
        """The service's own code, such as `invalid_observation`."""
        self.is_transient = is_transient
        """Whether the same call may well succeed later: nobody answered, or was too busy to."""


class AnsweredBy(msgspec.Struct, frozen=True):
    """Who chose."""

    version: int | None
    variant: str
    source: str
    """`model` or `heuristic`."""
    reason: str | None
    """Why a heuristic answered; `unreachable` where it did so here, because nobody else did."""


class Answer(msgspec.Struct, frozen=True):
    """Actions for N observations."""

    policy: str
    decision_id: str
    """Row r is `<decision_id>/<r>`."""
    actions: list[int]
    propensities: list[float]
    answered_by: list[AnsweredBy]
    answered_by_index: list[int] | None = None
    q_values: list[list[float] | None] | None = None

    def by(self, row: int) -> AnsweredBy:
        """Who chose a row's action."""
        index = self.answered_by_index
        return self.answered_by[0 if index is None else index[row]]


class StepAnswer(msgspec.Struct, frozen=True):
    """The action for one step of an episode, or the receipt of its last report."""

    policy: str
    episode_id: str
    step: int
    durable_step: int
    """Everything of this episode up to this step is on the server's disk; -1 where nothing is."""
    action: int | None = None
    """None where the episode ended."""
    propensity: float | None = None
    answered_by: AnsweredBy | None = None
    q_values: list[float] | None = None


class OutcomeReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of one decision, named by `<decision_id>/<row>` or by episode and step."""

    reward: float
    decision_id: str | None = None
    episode_id: str | None = None
    step: int | None = None
    policy: str | None = None
    terminated: bool = False
    """The episode truly ended with this step."""
    truncated: bool = False
    """A limit cut it off."""
    final_observation: Any = None
    """What the environment showed last, as nested lists, where the episode ended."""
    audit: float | None = None
    """How the step did in the audit metric that the policy declares."""


class Call(NamedTuple):
    """One call, before anything is sent."""

    method: str
    path: str
    body: Mapping[str, Any] | None
    can_repeat: bool
    """Whether the server recognises it when it comes twice."""
    is_timed: bool = False
    """Whether the server is told how long the caller still waits."""

    def content(self, remaining_seconds: float) -> bytes | None:
        """The request's body, as it is with so much time left."""
        if self.body is None:
            return None
        if not self.is_timed:
            return msgspec.json.encode(self.body)
        for_server = min(remaining_seconds * _SHARE_FOR_SERVER, MAX_DEADLINE_SECONDS) * 1000
        deadline_ms = min(self.body.get("deadline_ms", for_server), for_server)
        return msgspec.json.encode({**self.body, "deadline_ms": max(deadline_ms, 0.1)})


def actions_call(
    observations: npt.ArrayLike,
    decision_id: str,
    /,
    *,
    is_timed: bool,
    **fields: Any,
) -> Call:
    """Which actions to take on observations [N, *shape].

    Fields that are None are left out; a `decision_id` among them is the caller's own.
    """
    given = _given(fields)
    # A name of our own: a repeated call is the same decision in the log.
    body = {"observations": as_lists(observations), "decision_id": decision_id, **given}
    return Call("POST", "/v1/actions", body, can_repeat=True, is_timed=is_timed)


def step_call(episode_id: str, step: int, *, is_timed: bool, **fields: Any) -> Call:
    """One step of one episode; the server knows it by its number when it comes twice."""
    path = f"/v1/episodes/{episode_id}/steps"
    return Call("POST", path, {"step": step, **_given(fields)}, can_repeat=True, is_timed=is_timed)


def outcomes_call(outcomes: Sequence[OutcomeReport | Mapping[str, Any]]) -> Call:
    """Rewards, in any order; the log counts each once."""
    return Call("POST", "/v1/outcomes", {"outcomes": list(outcomes)}, can_repeat=True)


def transitions_call(transitions: Sequence[Mapping[str, Any]]) -> Call:
    """Whole transitions, each with its `transition_id`."""
    return Call("POST", "/v1/transitions", {"transitions": list(transitions)}, can_repeat=True)


def change_call(policy: str, action: str, body: Mapping[str, Any]) -> Call:
    """An operator's call, which is not sent twice: it may have been done."""
    return Call("POST", f"/v1/policies/{policy}/{action}", body, can_repeat=False)


def get_call(path: str) -> Call:
    """Reading changes nothing."""
    return Call("GET", path, None, can_repeat=True)


def decode_accepted(content: bytes) -> int:
    """How many entries of a report were accepted."""
    accepted: int = msgspec.json.decode(content)["accepted"]
    return accepted


def refusal(status: int, content: bytes) -> ClientError:
    """What a response that is no success means."""
    is_transient = status in (429, 502, 503, 504)
    try:
        told = msgspec.json.decode(content)
        return ClientError(told["error"], status, told["code"], is_transient=is_transient)
    except (msgspec.DecodeError, KeyError, TypeError):
        text = content[:200].decode(errors="replace")
        return ClientError(f"{status}: {text}", status, is_transient=is_transient)


def as_lists(observation: npt.ArrayLike) -> Any:
    """An array as JSON has it."""
    return np.asarray(observation).tolist()


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are not None; arrays among them as lists."""
    return {
        name: as_lists(value) if isinstance(value, np.ndarray) else value
        for name, value in fields.items()
        if value is not None
    }
