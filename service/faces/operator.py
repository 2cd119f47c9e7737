"""What operators change at once: promote, roll back, pin, freeze.

Every change is a ledger entry with a `why`; the loader of every worker follows the ledger.
"""

from typing import Annotated, Any, Final

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import Field

from contract.rollout import PolicyState
from service.errors import ConflictError, InvalidRequestError
from service.faces.access import ServedDep, ServerDep, needs
from service.faces.changes import Change, make_change

_OPERATE: Final = needs("operate")
# On the router too, where it comes before the path is looked at: who has no key learns no names.
router = APIRouter(prefix="/v1/policies", tags=["operator"], dependencies=[_OPERATE])
Who = Annotated[str, _OPERATE]
"""Name of the key that made the call."""


class Promotion(Change):
    """Make a version stable."""

    version: int = Field(ge=1)
    first: bool = False
    """Needed for a policy's first version, and refused after it."""


class Rollback(Change):
    """Go back to an earlier version."""

    to: int | None = Field(default=None, ge=1)
    """The previous stable version where left out."""


@router.post("/{policy}/promote")
async def promote(server: ServerDep, served: ServedDep, who: Who, body: Promotion) -> JSONResponse:
    """Make a version stable, once it has proven that it loads."""

    def allow(state: PolicyState) -> None:
        if (state.stable is None) != body.first:
            found, must = ("no", "needs") if state.stable is None else ("a", "must not say")
            raise ConflictError(
                f"{served.name} has {found} stable version, so a promotion {must} `first`"
            )
        refuse_frozen(served.name, state)
        trial = state.open_rollout
        if trial is not None and trial.kind == "canary" and trial.version != body.version:
            raise ConflictError(
                f"version {trial.version} of {served.name} is on trial: promote it, or `abort` it"
            )

    await server.rollout.catch_up()
    trial = server.rollout.state(served.name).open_rollout
    details: dict[str, Any] = {}
    if trial is not None and trial.version == body.version and trial.plan.holdback_share:
        details["holdback_share"] = trial.plan.holdback_share
        details["return_range"] = trial.plan.return_range
    return await make_change(
        server,
        served,
        who,
        "promote",
        body,
        version=body.version,
        allow=allow,
        details=details,
    )


@router.post("/{policy}/rollback")
async def rollback(server: ServerDep, served: ServedDep, who: Who, body: Rollback) -> JSONResponse:
    """Make the previous version stable again, or the one named. A freeze does not stop it."""
    known = await server.rollout.find(served.name, body.key)
    version = body.to or server.rollout.state(served.name).previous
    if known is not None and body.to is None:
        # The previous version is another one since the call was first made.
        version = known.version
    if version is None:
        raise InvalidRequestError(f"to: {served.name} has no previous version to go back to")
    return await make_change(server, served, who, "rollback", body, version=version)


@router.post("/{policy}/pin")
async def pin(server: ServerDep, served: ServedDep, who: Who, body: Change) -> JSONResponse:
    """Let the heuristic answer everything."""
    return await make_change(server, served, who, "pin", body)


@router.post("/{policy}/unpin")
async def unpin(server: ServerDep, served: ServedDep, who: Who, body: Change) -> JSONResponse:
    """Let the model answer again."""
    return await make_change(server, served, who, "unpin", body)


@router.post("/{policy}/freeze")
async def freeze(server: ServerDep, served: ServedDep, who: Who, body: Change) -> JSONResponse:
    """Stop promotions, ramps and retraining; never a rollback."""
    return await make_change(server, served, who, "freeze", body)


@router.post("/{policy}/unfreeze")
async def unfreeze(server: ServerDep, served: ServedDep, who: Who, body: Change) -> JSONResponse:
    """Allow promotions again."""
    return await make_change(server, served, who, "unfreeze", body)


def refuse_frozen(policy: str, state: PolicyState) -> None:
    """Raise ConflictError where an operator has frozen a policy."""
    if state.is_frozen:
        raise ConflictError(f"{policy} is frozen: no promotion until `unfreeze`")
