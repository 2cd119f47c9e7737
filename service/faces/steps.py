"""`POST /v1/episodes/{episode_id}/steps`: an agent's whole loop in one call.

Reports what came of the last step, takes the newest frame, answers with the next action. The stack
of frames is kept here. A step sent again gets the answer it had, and shifts no stack.
"""

import time
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from contract.privacy import loggable_outcome
from contract.records import Column, Outcome
from service.errors import ConflictError, InvalidRequestError, ServiceError
from service.faces.actions import (
    AnsweredByBody,
    Milliseconds,
    UnixSeconds,
    answered_by_body,
    q_value_rows,
)
from service.faces.decoding import (
    Step,
    Tags,
    body_decoder,
    check_id,
    decode_masks,
    is_given,
)
from service.faces.http import Route, call_face
from service.faces.outcomes import Finite, check_audit
from service.inference.episodes import OpenEpisode
from service.inference.questions import Answer, OnFallback, Question
from service.inference.served import ServedPolicy
from service.messages import MSGPACK, Reply, Request, Respond, error_reply
from service.server import Server


class StepRequest(msgspec.Struct, forbid_unknown_fields=True):
    """One step of one episode."""

    step: Step
    """From 0; the reward is that of the step before."""
    observation: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    """The newest frame, or the whole observation where frames are not stacked; left out only
    where the episode ended with the step before."""
    policy: str | None = None
    started_at: UnixSeconds | None = None
    """When the episode began, where its id does not say it as a version 7 UUID does."""
    reward: Finite | None = None
    """Of the step before; left out at step 0."""
    audit: Finite | None = None
    """Of the step before, likewise, in the policy's audit metric, where it declares one."""
    terminated: bool = False
    """The episode truly ended with the step before."""
    truncated: bool = False
    """A limit cut it off after the step before."""
    final_observation: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    """What the environment showed last, where the episode ended."""
    action_mask: list[bool] | None = None
    deadline_ms: Milliseconds | None = None
    on_fallback: OnFallback = "heuristic"
    include_q_values: bool = False
    explore: bool = False
    """The episode agrees to a random action now and then, where the policy declares it."""
    tags: Tags | None = None


class StepResponse(msgspec.Struct, omit_defaults=True):
    """The action for a step, or the receipt of the last report."""

    policy: str
    episode_id: str
    step: int
    durable_step: int
    """Everything of this episode up to this step is on disk; -1 where nothing is yet."""
    action: int | None = None
    """Left out where the episode ended."""
    propensity: float | None = None
    answered_by: AnsweredByBody | None = None
    q_values: list[float] | None = None


_decode: Final = body_decoder(StepRequest)
_encode_json: Final = msgspec.json.Encoder().encode
_encode_msgpack: Final = msgspec.msgpack.Encoder().encode


def take_step(server: Server, request: Request, respond: Respond) -> None:
    """Report the last step's outcome and get the next action, by the deadline."""
    episode_id = request.path_parameters[0]
    check_id(episode_id, "episode_id")

    def stand_in() -> None:
        call_face(server, OWN_STEPS, request, respond)

    if not server.siblings.hand_over(episode_id, request, respond, stand_in):
        take_own_step(server, request, respond)


def take_own_step(server: Server, request: Request, respond: Respond) -> None:
    """A step of an episode that this worker owns, or whose owner does not answer."""
    episode_id = request.path_parameters[0]
    check_id(episode_id, "episode_id")
    body = _decode(request)
    served = server.policy(body.policy)
    _check_sense(body)
    check_audit(served, body.audit)
    frame = _frame(served, body.observation, request, "observation")
    final = _frame(served, body.final_observation, request, "final_observation")
    masks = decode_masks(
        None if body.action_mask is None else [body.action_mask], 1, served.declaration.actions
    )
    deadline = request.arrived_at + server.deadline_seconds(body.deadline_ms)
    # Nothing below refuses the request for what it says: from here on it changes the episode.
    episode = server.episodes.find(served.name, episode_id, served.declaration.observation)
    if body.step < episode.step:
        raise ConflictError(f"step: expected {episode.step} or later, found {body.step}")

    def tell(answer: Answer | ServiceError) -> None:
        if isinstance(answer, ServiceError):
            respond(error_reply(answer))
        else:
            respond(_action_reply(served, episode_id, episode, body, request, answer))

    if body.step > episode.step:
        outcome = _outcome(served, episode_id, body, final)
        episode.step, episode.answer, episode.waiting = body.step, None, None
        if frame is None:
            _finish(server, served, episode_id, episode, body, outcome, request, respond)
            return
        if outcome is not None:
            _put(server, served, outcome)
        server.episodes.push(episode, frame)
    elif episode.answer is not None:
        tell(episode.answer)
        return
    elif episode.waiting is not None:
        episode.waiting.append(tell)
        return
    elif frame is None:
        # The last report, sent again: it was accepted, and what it said is on its way to disk.
        respond(_reply(request, StepResponse(served.name, episode_id, body.step, body.step)))
        return
    _ask(server, served, episode_id, episode, body, masks, request, deadline, tell)


STEPS: Final = Route("/v1/episodes/{episode_id}/steps", "act", take_step)
OWN_STEPS: Final = STEPS._replace(face=take_own_step)
"""What siblings ask for: it is not handed over again."""


def _ask(
    server: Server,
    served: ServedPolicy,
    episode_id: str,
    episode: OpenEpisode,
    body: StepRequest,
    masks: npt.NDArray[np.bool_] | None,
    request: Request,
    deadline: float,
    tell: Any,
) -> None:
    if episode.observation is None:
        raise InvalidRequestError("observation: expected one, found none")
    episode.waiting = [tell]

    def tell_all(answer: Answer | ServiceError) -> None:
        waiting, episode.waiting = episode.waiting or [], None
        if episode.step == body.step and not isinstance(answer, ServiceError):
            episode.answer = answer
        for each in waiting:
            each(answer)

    def note_durable() -> None:
        episode.durable_step = max(episode.durable_step, body.step)

    question = Question(
        server.new_decision_id(),
        episode.observation[None],
        masks,
        [episode_id],
        [body.step],
        request.arrived_at,
        deadline,
        body.on_fallback,
        tell_all,
        on_durable=note_durable,
        started_at=None if body.started_at is None else [body.started_at],
        explores=body.explore,
        # Step 0 is logged as it was filled; whether the history is whole is the join's to find.
        logs_newest_frame=episode.stack is not None and body.step > 0,
        tags=body.tags,
        traced=server.follow(request),
    )
    if episode.has_history:
        served.submit(question)
    else:
        served.answer_without_model(question, "no_history")


def _finish(
    server: Server,
    served: ServedPolicy,
    episode_id: str,
    episode: OpenEpisode,
    body: StepRequest,
    outcome: Outcome | None,
    request: Request,
    respond: Respond,
) -> None:
    """The last report: acknowledged once it is on disk, and all before it with it."""
    if outcome is None:
        raise InvalidRequestError("reward: expected that of the last step, found none")

    def tell(refusal: ServiceError | None) -> None:
        if refusal is not None:
            respond(error_reply(refusal))
            return
        server.outcomes["accepted"].add()
        episode.durable_step = body.step
        respond(_reply(request, StepResponse(served.name, episode_id, body.step, body.step)))

    loggable = loggable_outcome(outcome, served.declaration.logging)
    if loggable is None:
        tell(None)
    else:
        server.spool.put_durably([loggable], tell)


def _put(server: Server, served: ServedPolicy, outcome: Outcome) -> None:
    loggable = loggable_outcome(outcome, served.declaration.logging)
    if loggable is not None:
        server.spool.put(loggable)
    server.outcomes["accepted"].add()


def _check_sense(body: StepRequest) -> None:
    is_over = body.terminated or body.truncated
    has_observation = is_given(body.observation)
    if not has_observation and not is_over:
        raise InvalidRequestError(
            "observation: expected one, unless the episode terminated or was truncated"
        )
    if has_observation and is_over:
        raise InvalidRequestError(
            "observation: expected none after the end; what was seen last is final_observation"
        )
    if body.step == 0 and (body.reward is not None or is_over):
        raise InvalidRequestError("reward: expected none at step 0, which has no step before it")
    if is_over and body.reward is None:
        raise InvalidRequestError("reward: expected that of the last step, found none")
    if body.audit is not None and body.reward is None:
        raise InvalidRequestError("audit: expected none without the reward of the step before")


def _frame(
    served: ServedPolicy, raw: msgspec.Raw, request: Request, name: str
) -> npt.NDArray[Any] | None:
    if not is_given(raw):
        return None
    return served.frame_decoder.one(raw, is_msgpack=request.is_msgpack, name=name)


def _outcome(
    served: ServedPolicy,
    episode_id: str,
    body: StepRequest,
    final: npt.NDArray[Any] | None,
) -> Outcome | None:
    if body.reward is None:
        return None
    return Outcome(
        policy=served.name,
        time=time.time(),
        decision_id=None,
        row=0,
        episode_id=episode_id,
        step=body.step - 1,
        reward=body.reward,
        terminated=body.terminated,
        truncated=body.truncated,
        final_observation=None if final is None else Column.of(final),
        audit=body.audit,
    )


def _action_reply(
    served: ServedPolicy,
    episode_id: str,
    episode: OpenEpisode,
    body: StepRequest,
    request: Request,
    answer: Answer,
) -> Reply:
    entry = answer.answered_by[0 if answer.index is None else answer.index[0]]
    return _reply(
        request,
        StepResponse(
            served.name,
            episode_id,
            body.step,
            episode.durable_step,
            answer.actions[0],
            answer.propensities[0],
            answered_by_body(entry),
            q_value_rows(answer)[0] if body.include_q_values else None,
        ),
    )


def _reply(request: Request, response: StepResponse) -> Reply:
    if request.is_msgpack:
        return Reply(200, _encode_msgpack(response), MSGPACK)
    return Reply(200, _encode_json(response))
