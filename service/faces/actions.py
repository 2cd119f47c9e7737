"""`POST /v1/actions`: observations in columns, actions in columns."""

from functools import lru_cache
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl

import msgspec
import numpy as np

from contract.records import AnsweredBy
from service.errors import InvalidRequestError, ServiceError
from service.faces.decoding import (
    ABSENT,
    Step,
    Tags,
    body_decoder,
    check_column,
    check_id,
    check_ids,
    decode_masks,
)
from service.faces.http import Route
from service.inference.questions import Answer, OnFallback, Question
from service.inference.served import ServedPolicy
from service.messages import MSGPACK, OCTET_STREAM, Reply, Request, Respond, error_reply
from service.server import Server

Milliseconds = Annotated[float, msgspec.Meta(gt=0)]
UnixSeconds = Annotated[float, msgspec.Meta(gt=0)]


class ActionsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Which actions to take on N observations."""

    observations: msgspec.Raw
    """[N, *shape], as the policy declares it."""
    policy: str | None = None
    """May be left out where one policy is served or a default is set."""
    episode_ids: list[str] | None = None
    """One a row: keeps an episode on one version, and joins its decisions to its outcomes."""
    steps: list[Step] | None = None
    """One a row: the step within its episode, from 0."""
    started_at: list[UnixSeconds] | None = None
    """One a row: when its episode began, where the id does not say it as a version 7 UUID does. It
    decides which version the episode is of; else its first row here does."""
    action_masks: list[list[bool]] | None = None
    """[N, num_actions], true where legal; only for policies that declare a mask."""
    deadline_ms: Milliseconds | None = None
    """When the answer must be there, in milliseconds from the last byte of the request."""
    on_fallback: OnFallback = "heuristic"
    """`error` refuses a heuristic's guess: the request fails where the model did not answer."""
    include_q_values: bool = False
    decision_id: str | None = None
    """A name of the caller's own; else one is made."""
    explore: bool = False
    """The episodes agree to a random action now and then, where the policy declares it."""
    tags: Tags | None = None
    """Of the whole request."""


class AnsweredByBody(msgspec.Struct):
    """Who chose."""

    version: int | None
    variant: str
    source: str
    reason: str | None


class ActionsResponse(msgspec.Struct, omit_defaults=True):
    """The actions, who chose them, and with what probability."""

    policy: str
    decision_id: str
    """Row r of the request is `<decision_id>/<r>`."""
    actions: list[int]
    propensities: list[float]
    answered_by: list[AnsweredByBody]
    answered_by_index: list[int] | None = None
    """Row to entry of `answered_by`; left out where the one entry fits all rows."""
    q_values: list[list[float] | None] | None = None
    """[N, num_actions] where asked for; null in rows that the model did not answer."""


_decode: Final = body_decoder(ActionsRequest)
_encode_json: Final = msgspec.json.Encoder().encode
_encode_msgpack: Final = msgspec.msgpack.Encoder().encode


def decide(server: Server, request: Request, respond: Respond) -> None:
    """Answer with actions, by the deadline."""
    is_msgpack = request.is_msgpack
    is_raw = bool(request.query) and request.content_type.startswith(OCTET_STREAM)
    body = _decode_query(request) if is_raw else _decode(request)
    served = server.policy(body.policy)
    observations = (
        served.decoder.raw_batch(request.body, name="observations")
        if is_raw
        else served.decoder.batch(body.observations, is_msgpack=is_msgpack, name="observations")
    )
    rows = len(observations)
    if rows > server.settings.rows_max:
        raise InvalidRequestError(
            f"observations: expected at most {server.settings.rows_max} rows, found {rows}"
        )
    check_ids(body.episode_ids, rows, "episode_ids")
    check_column(body.steps, rows, "steps")
    check_column(body.started_at, rows, "started_at")
    check_id(body.decision_id, "decision_id")
    if body.explore and body.episode_ids is None:
        raise InvalidRequestError("explore: expected episode_ids, since an episode agrees to it")
    decision_id = body.decision_id or server.new_decision_id()
    deadline = request.arrived_at + server.deadline_seconds(body.deadline_ms)

    def tell(answer: Answer | ServiceError) -> None:
        if isinstance(answer, ServiceError):
            reply = error_reply(answer)
        else:
            reply = _reply(served, decision_id, answer, body.include_q_values, is_msgpack)
        respond(reply)

    served.submit(
        Question(
            decision_id,
            observations,
            decode_masks(body.action_masks, rows, served.declaration.actions),
            body.episode_ids,
            body.steps,
            request.arrived_at,
            deadline,
            body.on_fallback,
            tell,
            wants_q_values=body.include_q_values,
            started_at=body.started_at,
            explores=body.explore,
            tags=body.tags,
            traced=server.follow(request),
        )
    )


def _decode_query(request: Request) -> ActionsRequest:
    """What goes with a body of raw numbers: `?policy=…&episode_ids=a,b&steps=0,7&deadline_ms=…`."""
    try:
        pairs = parse_qsl(request.query.decode(), strict_parsing=True)
        fields: dict[str, Any] = dict(pairs)
        for name in ("episode_ids", "steps", "started_at"):
            if name in fields:
                fields[name] = fields[name].split(",")
        if len(fields) != len(pairs) or fields.keys() & {"observations", "action_masks"}:
            raise InvalidRequestError("query: each field once; a mask needs a JSON body")
        return msgspec.convert(fields | {"observations": ABSENT}, ActionsRequest, strict=False)
    except (ValueError, msgspec.ValidationError) as error:
        raise InvalidRequestError(f"query: {error}") from error


ACTIONS: Final = Route("/v1/actions", "act", decide)


def _reply(
    served: ServedPolicy, decision_id: str, answer: Answer, with_q_values: bool, is_msgpack: bool
) -> Reply:
    response = ActionsResponse(
        served.name,
        decision_id,
        answer.actions,
        answer.propensities,
        [answered_by_body(entry) for entry in answer.answered_by],
        answer.index,
        q_value_rows(answer) if with_q_values else None,
    )
    if is_msgpack:
        return Reply(200, _encode_msgpack(response), MSGPACK)
    return Reply(200, _encode_json(response))


@lru_cache(maxsize=1024)
def answered_by_body(entry: AnsweredBy) -> AnsweredByBody:
    """Who chose, as a client is told."""
    return AnsweredByBody(entry.version, entry.variant, entry.source, entry.reason)


def q_value_rows(answer: Answer) -> list[list[float] | None]:
    """Q-values [N, num_actions] as lists; None in rows that the model did not answer."""
    if answer.q_values is None:
        return [None] * len(answer.actions)
    rows: list[Any] = answer.q_values.tolist()
    for row in np.flatnonzero(~np.isfinite(answer.q_values).all(axis=1)):
        rows[row] = None
    return rows
