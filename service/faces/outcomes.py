"""`POST /v1/outcomes` and `POST /v1/transitions`: durable when answered."""

import time
from typing import Annotated, Any, Final, Literal

import msgspec

from contract.privacy import loggable_outcome, loggable_transition
from contract.records import Column, Outcome, Record, TransitionRecord
from service.errors import InvalidRequestError, ServiceError
from service.faces.decoding import Step, body_decoder, check_id, is_given
from service.faces.http import Route
from service.inference.served import ServedPolicy
from service.messages import Reply, Request, Respond, error_reply
from service.server import Server

_MOST: Final = 4096
Finite = Annotated[float, msgspec.Meta(ge=-1e30, le=1e30)]
"""A reward: no NaN and no infinity passes."""
Result = Literal["accepted", "invalid"]


class OutcomeBody(msgspec.Struct, forbid_unknown_fields=True):
    """What came of one decision, named by its id or by episode and step."""

    reward: Finite
    decision_id: str | None = None
    """`<decision_id>/<row>`, or the bare id of a request of one row."""
    episode_id: str | None = None
    step: Step | None = None
    policy: str | None = None
    terminated: bool = False
    """The episode truly ended with this step."""
    truncated: bool = False
    """A limit cut it off: what follows still had value."""
    final_observation: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    """What the environment showed last, where the episode ended."""
    outcome_id: str | None = None
    """Tells this report from others on the same decision: sent again under the same id it counts
    once. Needed only where a decision may have several equal rewards that are to be summed."""
    audit: Finite | None = None
    """How the step did in the policy's audit metric, where it declares one."""


class OutcomesRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Rewards, in any order, once each."""

    outcomes: list[msgspec.Raw]
    """Each is judged by itself: one that is malformed spoils no other."""


class ResultBody(msgspec.Struct, omit_defaults=True):
    """What became of one entry."""

    result: Result
    error: str | None = None


class ResultsResponse(msgspec.Struct):
    """One result an entry, in order. What is `accepted` is on disk."""

    results: list[ResultBody]
    accepted: int


class TransitionBody(msgspec.Struct, forbid_unknown_fields=True):
    """A whole transition, from an agent that keeps its own."""

    transition_id: str
    """Sent again, it counts once."""
    observation: msgspec.Raw
    action: Annotated[int, msgspec.Meta(ge=0)]
    reward: Finite
    next_observation: msgspec.Raw
    terminated: bool = False
    truncated: bool = False
    policy: str | None = None
    episode_id: str | None = None
    step: Step | None = None
    propensity: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    behaviour: str = "agent"
    """Who chose the action, where it was not this service."""


class TransitionsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Transitions, in any order."""

    transitions: list[msgspec.Raw]
    """Each is judged by itself."""


_decode_outcomes: Final = body_decoder(OutcomesRequest)
_decode_transitions: Final = body_decoder(TransitionsRequest)
_decode_outcome: Final = body_decoder(OutcomeBody)
_decode_transition: Final = body_decoder(TransitionBody)


def take_outcomes(server: Server, request: Request, respond: Respond) -> None:
    """Accept outcomes; answer once they are on disk."""
    entries = _decode_outcomes(request).outcomes
    _accept(server, request, respond, entries, _outcome, "outcomes")


def take_transitions(server: Server, request: Request, respond: Respond) -> None:
    """Accept whole transitions; answer once they are on disk."""
    entries = _decode_transitions(request).transitions
    _accept(server, request, respond, entries, _transition, "transitions")


OUTCOMES: Final = Route("/v1/outcomes", "report", take_outcomes)
TRANSITIONS: Final = Route("/v1/transitions", "report", take_transitions)


def _accept(
    server: Server,
    request: Request,
    respond: Respond,
    entries: list[msgspec.Raw],
    read: Any,
    name: str,
) -> None:
    if not 0 < len(entries) <= _MOST:
        raise InvalidRequestError(f"{name}: expected 1 to {_MOST} entries, found {len(entries)}")
    records: list[Record] = []
    results: list[ResultBody] = []
    for entry in entries:
        try:
            record = read(server, request._replace(body=bytes(entry)))
            if record is not None:
                records.append(record)
            results.append(ResultBody("accepted"))
        except ServiceError as error:
            results.append(ResultBody("invalid", str(error)))
    accepted = sum(result.result == "accepted" for result in results)
    server.outcomes["invalid"].add(len(entries) - accepted)
    reply = Reply(200, msgspec.json.encode(ResultsResponse(results, accepted)))
    if not records:
        respond(reply)
        return

    def tell(refusal: ServiceError | None) -> None:
        if refusal is None:
            server.outcomes["accepted"].add(accepted)
        respond(reply if refusal is None else error_reply(refusal))

    server.spool.put_durably(records, tell)


def _outcome(server: Server, request: Request) -> Outcome | None:
    """None where the policy's declaration leaves its episode out of the log."""
    body = _decode_outcome(request)
    has_place = body.episode_id is not None and body.step is not None
    if (body.decision_id is None) == (not has_place):
        raise InvalidRequestError("expected either decision_id, or episode_id and step")
    check_id(body.episode_id, "episode_id")
    check_id(body.outcome_id, "outcome_id")
    decision_id, row = _split(body.decision_id)
    served, final = server.policy(body.policy), None
    check_audit(served, body.audit)
    if is_given(body.final_observation):
        final = _observation(served, body.final_observation, request, "final_observation")
    outcome = Outcome(
        policy=served.name,
        time=time.time(),
        decision_id=decision_id,
        row=row,
        episode_id=body.episode_id,
        step=body.step,
        reward=body.reward,
        terminated=body.terminated,
        truncated=body.truncated,
        final_observation=final,
        outcome_id=body.outcome_id,
        audit=body.audit,
    )
    return loggable_outcome(outcome, served.declaration.logging)


def check_audit(served: ServedPolicy, audit: float | None) -> None:
    """Raise InvalidRequestError for a report of an audit metric that is not declared."""
    if audit is not None and served.declaration.audit is None:
        raise InvalidRequestError(f"audit: {served.name} declares no audit metric in policy.toml")


def _transition(server: Server, request: Request) -> TransitionRecord | None:
    """None where the policy's declaration leaves its episode out of the log."""
    body = _decode_transition(request)
    served = server.policy(body.policy)
    check_id(body.transition_id, "transition_id")
    check_id(body.episode_id, "episode_id")
    num_actions = served.declaration.actions.count
    if body.action >= num_actions:
        raise InvalidRequestError(f"action: expected below {num_actions}, found {body.action}")
    record = TransitionRecord(
        policy=served.name,
        schema_hash=served.schema_hash,
        time=time.time(),
        transition_id=body.transition_id,
        episode_id=body.episode_id,
        step=body.step,
        observation=_observation(served, body.observation, request, "observation"),
        action=body.action,
        reward=body.reward,
        next_observation=_observation(served, body.next_observation, request, "next_observation"),
        terminated=body.terminated,
        truncated=body.truncated,
        propensity=body.propensity,
        behaviour=body.behaviour[:128],
    )
    return loggable_transition(record, served.declaration.logging)


def _observation(served: ServedPolicy, raw: msgspec.Raw, request: Request, name: str) -> Column:
    return Column.of(served.decoder.one(raw, is_msgpack=request.is_msgpack, name=name))


def _split(decision_id: str | None) -> tuple[str | None, int]:
    """`<id>/<row>` in its two parts; a bare id means row 0."""
    if decision_id is None:
        return None, 0
    name, _, row = decision_id.partition("/")
    if not name or not (row or "0").isdecimal() or len(row) > 6:
        raise InvalidRequestError(f"decision_id: expected <id>/<row>, found {decision_id[:80]!r}")
    return name, int(row or "0")
