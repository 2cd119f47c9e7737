"""How this box is, and what happened to its processes."""

import asyncio

import msgspec
from fastapi import APIRouter
from fastapi.responses import JSONResponse

from service.faces.access import ServerDep, needs
from service.history import HISTORY_FILE, read_history

router = APIRouter(prefix="/v1", tags=["policies"], dependencies=[needs("read")])


@router.get("/status")
async def status(server: ServerDep, since: float = 0.0) -> JSONResponse:
    """Starts, ends, deaths and changed settings since a time (Unix seconds), of this replica."""
    path = server.settings.data / "run" / HISTORY_FILE
    events = await asyncio.to_thread(read_history, path, since)
    told = [
        # What it was started with is for comparing starts, and longer than all else.
        msgspec.to_builtins(msgspec.structs.replace(event, configuration=None))
        for event in events
    ]
    return JSONResponse({"state": server.state, "why": server.degradations(), "events": told})
