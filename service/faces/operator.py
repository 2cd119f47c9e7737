"""What operators change: promote, roll back, pin, freeze.

Every change is a ledger entry with a `why`; the loader of every worker follows the ledger.
"""

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from contract.bundle import BundleError
from contract.ledger import Entry
from contract.rollout import PolicyState
from service.errors import ConflictError, InvalidRequestError
from service.faces.access import ServedDep, ServerDep, needs
from service.inference.served import ServedPolicy
from service.rollout.rollout import Allow
from service.server import Server

_OPERATE: Final = needs("operate")
# On the router too, where it comes before the path is looked at: who has no key learns no names.
router = APIRouter(prefix="/v1/policies", tags=["operator"], dependencies=[_OPERATE])
Who = Annotated[str, _OPERATE]
"""Name of the key that made the call."""


class Change(BaseModel):
    """What every operator call takes."""

    model_config = ConfigDict(extra="forbid")

    why: str = Field(min_length=1, max_length=2000)
    expected_stable: int | None = None
    """Refuse with 409 unless this version is stable."""
    key: str | None = Field(default=None, max_length=128)
    """Sent again with the same key, the call changes nothing more."""


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
        if state.is_frozen:
            raise ConflictError(f"{served.name} is frozen: no promotion until `unfreeze`")

    return await _change(server, served, who, "promote", body, body.version, allow)


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
    return await _change(server, served, who, "rollback", body, version)


@router.post("/{policy}/pin")
async def pin(server: ServerDep, served: ServedDep, who: Who, body: Change) -> JSONResponse:
    """Let the heuristic answer everything."""
    return await _change(server, served, who, "pin", body)


@router.post("/{policy}/unpin")
async def unpin(server: ServerDep, served: ServedDep, who: Who, body: Change) -> JSONResponse:
    """Let the model answer again."""
    return await _change(server, served, who, "unpin", body)


@router.post("/{policy}/freeze")
async def freeze(server: ServerDep, served: ServedDep, who: Who, body: Change) -> JSONResponse:
    """Stop promotions; never a rollback."""
    return await _change(server, served, who, "freeze", body)


@router.post("/{policy}/unfreeze")
async def unfreeze(server: ServerDep, served: ServedDep, who: Who, body: Change) -> JSONResponse:
    """Allow promotions again."""
    return await _change(server, served, who, "unfreeze", body)


def _allow_always(state: PolicyState) -> None:
    """Whatever the state, as pins and rollbacks are allowed."""


async def _check_loads(server: Server, served: ServedPolicy, version: int) -> None:
    try:
        await server.loader.check(served.name, version)
    except BundleError as error:
        raise ConflictError(f"version {version} may not serve: {error}") from error


async def _change(
    server: Server,
    served: ServedPolicy,
    who: str,
    action: str,
    body: Change,
    version: int | None = None,
    allow: Allow = _allow_always,
) -> JSONResponse:
    def allow_expected(state: PolicyState) -> None:
        if body.expected_stable is not None and state.stable != body.expected_stable:
            raise ConflictError(
                f"stable of {served.name} is {state.stable}, "
                f"expected_stable is {body.expected_stable}"
            )
        allow(state)

    entry = Entry(
        action=action, policy=served.name, version=version, who=who, why=body.why, key=body.key
    )
    if await server.rollout.find(served.name, body.key) is not None:
        # Sent again: the ledger returns what was done, or refuses a key of another change.
        written = await server.rollout.change(entry, _allow_always)
    else:
        await server.rollout.catch_up()
        allow_expected(server.rollout.state(served.name))
        if version is not None:
            await _check_loads(server, served, version)
        # Asked again on the state it is appended to: proving takes seconds, others act meanwhile.
        written = await server.rollout.change(entry, allow_expected)
    await server.loader.look()
    return JSONResponse({"entry": msgspec.to_builtins(written), "policy": served.describe()})
