"""A version earns its traffic: register, shadow, canary, and what the evidence says so far."""

import time
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import uuid4

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import Field

from contract.fold import state_at
from contract.plan import PlanError, RolloutPlan, decode_plan
from contract.rollout import PolicyState, Rollout
from service.errors import ConflictError, InvalidRequestError
from service.faces.access import ServedDep, ServerDep, needs
from service.faces.changes import Change, make_change
from service.faces.operator import refuse_frozen
from service.rollout.prospects import describe_rollout, describe_state, prospect, return_range

_READ: Final = needs("read")
_SUBMIT: Final = needs("submit")
_OPERATE: Final = needs("operate")
# On the router too, where it comes before the path is looked at: who has no key learns no names.
_PREFIX: Final = "/v1/policies"
read_router = APIRouter(prefix=_PREFIX, tags=["rollout"], dependencies=[_READ])
submit_router = APIRouter(prefix=_PREFIX, tags=["rollout"], dependencies=[_SUBMIT])
operate_router = APIRouter(prefix=_PREFIX, tags=["rollout"], dependencies=[_OPERATE])
Submitter = Annotated[str, _SUBMIT]
Operator = Annotated[str, _OPERATE]


class Registration(Change):
    """Let every replica load, prove and warm a version. It takes no traffic."""

    version: int = Field(ge=1)


class Canary(Change):
    """Put a version on trial."""

    version: int = Field(ge=1)
    plan: RolloutPlan | None = None
    """The policy's own where left out."""
    dry_run: bool = False
    """Say what it would take, and change nothing."""
    episodes_per_hour: float | None = Field(default=None, gt=0)
    """For a dry run: the traffic to reckon with."""


class Shadow(Change):
    """Let a version see traffic and answer none of it."""

    version: int = Field(ge=1)
    share: float = Field(default=0.1, ge=0, le=1)
    """Of the rows; 0 ends it."""


@submit_router.post("/{policy}/versions")
async def register(
    server: ServerDep, served: ServedDep, who: Submitter, body: Registration
) -> JSONResponse:
    """Register a version: loaded, proven and warm on every replica that reports."""
    return await make_change(server, served, who, "register", body, version=body.version)


@submit_router.post("/{policy}/canary")
async def canary(
    server: ServerDep, served: ServedDep, who: Submitter, body: Canary
) -> JSONResponse:
    """Put a version on trial, or say what that would take."""
    await server.rollout.catch_up()
    plan = body.plan or server.rollout.state(served.name).plan
    if plan.return_range is None:
        await server.loader.look()
        found = return_range(server.loader.warm(served.name).values())
        plan = plan.model_copy(update={"return_range": found})
    if body.dry_run:
        rate = None if body.episodes_per_hour is None else body.episodes_per_hour / 3600
        return JSONResponse(prospect(plan, rate))

    def allow(state: PolicyState) -> None:
        refuse_frozen(served.name, state)
        trial = state.open_rollout
        if state.stable is None or state.stable == body.version:
            raise ConflictError(
                f"stable of {served.name} is {state.stable}: a canary is another version than it"
            )
        if trial is not None and trial.kind == "canary":
            raise ConflictError(
                f"version {trial.version} of {served.name} is on trial: `abort` it first"
            )

    details = {
        "rollout_id": f"{body.version}-{uuid4().hex[:8]}",
        "plan": plan.model_dump(mode="json"),
    }
    return await make_change(
        server,
        served,
        who,
        "canary",
        body,
        version=body.version,
        allow=allow,
        details=details,
    )


@submit_router.post("/{policy}/shadow")
async def shadow(
    server: ServerDep, served: ServedDep, who: Submitter, body: Shadow
) -> JSONResponse:
    """Let a version see a share of the traffic; share 0 ends it."""
    return await make_change(
        server,
        served,
        who,
        "shadow",
        body,
        version=body.version,
        details={"share": body.share},
    )


@submit_router.post("/{policy}/retrain")
async def retrain(
    server: ServerDep, served: ServedDep, who: Submitter, body: Change
) -> JSONResponse:
    """Ask for a cycle of retraining, before its time; who retrains follows the ledger."""

    def allow(state: PolicyState) -> None:
        refuse_frozen(served.name, state)

    return await make_change(server, served, who, "retrain", body, allow=allow)


@operate_router.put("/{policy}/rollout")
async def plan_rollout(
    server: ServerDep,
    served: ServedDep,
    who: Operator,
    request: Request,
    why: Annotated[str, Query(min_length=1, max_length=2000)],
    expected_stable: int | None = None,
    key: Annotated[str | None, Query(max_length=128)] = None,
) -> JSONResponse:
    """Set the plan of the canaries to come, in TOML or JSON."""
    content = await request.body()
    try:
        plan = decode_plan(content, is_toml=not content.lstrip().startswith(b"{"))
    except PlanError as error:
        raise InvalidRequestError(str(error)) from error
    body = Change(why=why, expected_stable=expected_stable, key=key)
    details = {"plan": plan.model_dump(mode="json")}
    return await make_change(server, served, who, "plan", body, details=details)


@operate_router.post("/{policy}/abort")
async def abort(server: ServerDep, served: ServedDep, who: Operator, body: Change) -> JSONResponse:
    """End the trial and the shadow; open canary episodes finish on stable."""
    return await make_change(server, served, who, "abort", body)


@operate_router.post("/{policy}/pause")
async def pause(server: ServerDep, served: ServedDep, who: Operator, body: Change) -> JSONResponse:
    """Hold the share: nothing ramps or is promoted; the judge may still roll back."""
    return await make_change(server, served, who, "pause", body, allow=_needs_trial)


@operate_router.post("/{policy}/resume")
async def resume(server: ServerDep, served: ServedDep, who: Operator, body: Change) -> JSONResponse:
    """Let the trial go on."""
    return await make_change(server, served, who, "resume", body, allow=_needs_trial)


@read_router.get("/{policy}/rollout")
async def rollout(server: ServerDep, served: ServedDep, at: str | None = None) -> JSONResponse:
    """What serves whom, now or at a time (RFC 3339), with what evidence."""
    await server.rollout.catch_up()
    now = time.time()
    if at is None:
        return JSONResponse(describe_state(served.name, server.rollout.state(served.name), now))
    try:
        moment = datetime.fromisoformat(at).astimezone().timestamp()
    except ValueError as error:
        raise InvalidRequestError(f"at: expected a time as of RFC 3339, found {at!r}") from error
    past = state_at(server.rollout.entries, served.name, moment)
    return JSONResponse(describe_state(served.name, past, moment))


@read_router.get("/{policy}/rollout/verdict")
async def verdict(server: ServerDep, served: ServedDep) -> JSONResponse:
    """The open trial's verdict, else the last one's; an Argo `web` metric reads it."""
    return JSONResponse(await _verdict(server, served))


@read_router.post("/{policy}/gates/rollout")
async def gate_rollout(server: ServerDep, served: ServedDep) -> JSONResponse:
    """A Flagger `rollout` webhook: refused only where the verdict is `roll_back`."""
    found = await _verdict(server, served)
    if found["verdict"] == "roll_back":
        raise ConflictError(found["sentence"])
    return JSONResponse(found)


@read_router.post("/{policy}/gates/promotion")
async def gate_promotion(server: ServerDep, served: ServedDep) -> JSONResponse:
    """A Flagger `confirm-promotion` webhook: allowed only where the verdict is `promote`."""
    found = await _verdict(server, served)
    if found["verdict"] != "promote":
        raise ConflictError(found["sentence"])
    return JSONResponse(found)


async def _verdict(server: ServerDep, served: ServedDep) -> dict[str, Any]:
    await server.rollout.catch_up()
    last: Rollout | None = server.rollout.state(served.name).rollout
    return describe_rollout(served.name, last, time.time())


def _needs_trial(state: PolicyState) -> None:
    if state.open_rollout is None:
        raise ConflictError("no version is on trial")
