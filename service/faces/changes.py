"""What every operator call does: check, append to the ledger, tell which replicas follow."""

import asyncio
import time
from typing import Any, Final

import msgspec
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from contract.bundle import BundleError
from contract.ledger import Entry
from contract.rollout import PolicyState
from service.errors import ConflictError
from service.inference.served import ServedPolicy
from service.rollout.rollout import Allow
from service.server import Server

_FOLLOW_SECONDS: Final = 3.0
"""How long an operator waits for the other replicas to act by what was written."""
_WARM_SECONDS: Final = 60.0
"""How long for them to load, prove and warm a version."""
_POLL_SECONDS: Final = 0.05


class Change(BaseModel):
    """What every operator call takes."""

    model_config = ConfigDict(extra="forbid")

    why: str = Field(min_length=1, max_length=2000)
    expected_stable: int | None = None
    """Refuse with 409 unless this version is stable."""
    key: str | None = Field(default=None, max_length=128)
    """Sent again with the same key, the call changes nothing more."""


def allow_always(state: PolicyState) -> None:
    """Whatever the state, as pins and rollbacks are allowed."""


async def make_change(
    server: Server,
    served: ServedPolicy,
    who: str,
    action: str,
    body: Change,
    *,
    version: int | None = None,
    allow: Allow = allow_always,
    details: dict[str, Any] | None = None,
) -> JSONResponse:
    """Append one change where the state allows it; answer with the entry and who follows it."""

    def allow_expected(state: PolicyState) -> None:
        if body.expected_stable is not None and state.stable != body.expected_stable:
            raise ConflictError(
                f"stable of {served.name} is {state.stable}, "
                f"expected_stable is {body.expected_stable}"
            )
        allow(state)

    entry = Entry(
        action=action,
        policy=served.name,
        version=version,
        who=who,
        why=body.why,
        key=body.key,
        details=details or {},
    )
    if await server.rollout.find(served.name, body.key) is not None:
        # Sent again: the ledger returns what was done, or refuses a key of another change.
        written = await server.rollout.change(entry, allow_always)
    else:
        await server.rollout.catch_up()
        allow_expected(server.rollout.state(served.name))
        if version is not None:
            await _prove(server, served, version)
            if action != "rollback":
                # A rollback waits for nobody: who has not got the version yet follows when it has.
                await warm_everywhere(server, served, who, version)
        # Asked again on the state it is appended to: proving takes seconds, others act meanwhile.
        written = await server.rollout.change(entry, allow_expected)
    await server.loader.look()
    return JSONResponse(
        {
            "entry": msgspec.to_builtins(written),
            "policy": served.describe(),
            "replicas": await _followers(server, written.position),
        }
    )


async def warm_everywhere(server: Server, served: ServedPolicy, who: str, version: int) -> None:
    """Wait until a version is loaded, proven and warm on every other replica that reports.

    Raises:
        ConflictError: It may not serve there, or is not ready in time.
    """
    if not await _cold(server, served.name, version):
        return
    why = f"to be warm on every replica before version {version} takes traffic"
    await server.rollout.record(
        Entry(action="register", policy=served.name, version=version, who=who, why=why)
    )
    until = time.monotonic() + _WARM_SECONDS
    while cold := await _cold(server, served.name, version):
        failed = {name: why for name, why in cold.items() if why}
        if failed or time.monotonic() > until:
            told = "; ".join(f"{name}: {why or 'not yet'}" for name, why in cold.items())
            raise ConflictError(f"version {version} is not warm on every replica: {told}")
        await asyncio.sleep(_POLL_SECONDS)


async def _prove(server: Server, served: ServedPolicy, version: int) -> None:
    try:
        await server.loader.check(served.name, version)
    except BundleError as error:
        raise ConflictError(f"version {version} may not serve: {error}") from error


async def _cold(server: Server, policy: str, version: int) -> dict[str, str]:
    """The other replicas on which a version is not warm, and why where it cannot be."""
    told = await asyncio.to_thread(server.replicas.told, time.time())
    return {
        each.name: each.faults.get(f"{policy}/{version}", "")
        for each in told
        if each.name != server.loader.who and version not in each.warm.get(policy, [])
    }


async def _followers(server: Server, position: int) -> dict[str, list[str]]:
    """Replicas that act by the ledger up to a position, and those that did not say so in time."""
    until = time.monotonic() + _FOLLOW_SECONDS
    while True:
        told = await asyncio.to_thread(server.replicas.told, time.time())
        others = [each for each in told if each.name != server.loader.who]
        missing = [each.name for each in others if each.position < position]
        if not missing or time.monotonic() > until:
            followed = {each.name for each in others if each.position >= position}
            # Where nobody can be asked, this one still has done what was wanted.
            followed.add(server.loader.who)
            return {"acknowledged": sorted(followed), "not_acknowledged": missing}
        await asyncio.sleep(_POLL_SECONDS)
