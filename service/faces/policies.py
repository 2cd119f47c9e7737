"""What anybody with `read` may see: policies, versions, the ledger."""

import msgspec
from fastapi import APIRouter
from fastapi.responses import JSONResponse

from contract.bundle import versions_in
from service.faces.access import ServedDep, ServerDep, needs

router = APIRouter(prefix="/v1/policies", tags=["policies"], dependencies=[needs("read")])


@router.get("")
async def policies(server: ServerDep) -> JSONResponse:
    """Every policy: what serves, since when, and what is wrong with it."""
    found = [each.describe() for _, each in sorted(server.policies.items())]
    return JSONResponse({"policies": found, "faults": server.loader.faults})


@router.get("/{policy}")
async def one_policy(served: ServedDep) -> JSONResponse:
    """One policy."""
    return JSONResponse(served.describe())


@router.get("/{policy}/versions")
async def versions(server: ServerDep, served: ServedDep) -> JSONResponse:
    """The versions in the repository, and the aliases that point at them."""
    state = server.rollout.state(served.name)
    found = versions_in(server.settings.policies / served.name)
    aliases = {
        "stable": state.stable,
        "canary": state.canary,
        "shadow": state.shadow,
        "previous": state.previous,
    }
    return JSONResponse({"versions": found} | aliases)


@router.get("/{policy}/ledger")
async def ledger(server: ServerDep, served: ServedDep, after: int = 0) -> JSONResponse:
    """Who did what, when and why, above position `after`."""
    await server.rollout.catch_up()
    entries = server.rollout.entries[max(after, 0) :]
    found = [msgspec.to_builtins(entry) for entry in entries if entry.policy == served.name]
    return JSONResponse({"entries": found})
