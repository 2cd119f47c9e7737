"""What operators change: promote, roll back, pin, freeze.

Every change is a ledger entry with a `why`; the loader of every worker follows the ledger.
"""

from typing import Annotated

import msgspec
from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from contract.bundle import BundleError
from contract.ledger import Entry
from service.errors import ConflictError, InvalidRequestError
from service.faces.access import ServedDep, ServerDep, needs
from service.inference.served import ServedPolicy
from service.server import Server

router = APIRouter(prefix="/v1/policies", tags=["operator"])
Who = Annotated[str, needs("operate")]
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
    await server.rollout.catch_up()
    state = server.rollout.state(served.name)
    if (state.stable is None) != body.first:
        found, must = ("no", "needs") if state.stable is None else ("a", "must not say")
        raise ConflictError(
            f"{served.name} has {found} stable version, so a promotion {must} `first`"
        )
    if state.is_frozen:
        raise ConflictError(f"{served.name} is frozen: no promotion until `unfreeze`")
    await _check_loads(server, served, body.version)
    return await _change(server, served, who, "promote", body, body.version)


@router.post("/{policy}/rollback")
async def rollback(server: ServerDep, served: ServedDep, who: Who, body: Rollback) -> JSONResponse:
    """Make the previous version stable again, or the one named. A freeze does not stop it."""
    await server.rollout.catch_up()
    version = body.to or server.rollout.state(served.name).previous
    if version is None:
        raise InvalidRequestError(f"to: {served.name} has no previous version to go back to")
    await _check_loads(server, served, version)
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
) -> JSONResponse:
    entry = Entry(
        action=action, policy=served.name, version=version, who=who, why=body.why, key=body.key
    )
    written = await server.rollout.change(entry, body.expected_stable)
    await server.loader.look()
    return JSONResponse({"entry": msgspec.to_builtins(written), "policy": served.describe()})
