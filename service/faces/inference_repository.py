"""The model repository of the Open Inference Protocol: index, load, unload.

Whatever is unloaded, a valid request gets a valid action. So `unload` pins the policy to its
heuristic, in the ledger and thus on every worker, and `load` lifts that pin and looks at the
repository again. It lifts no pin that an operator made: the loading scripts of Triton's users must
not undo one. Which version serves is for `promote` to say.
"""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from contract.bundle import versions_in
from contract.ledger import Entry
from contract.rollout import PolicyState
from service.errors import ConflictError, MalformedBodyError
from service.faces.access import ServerDep, needs
from service.faces.inference_models import may_look, why_not_ready
from service.inference.served import ServedPolicy

UNLOADED: Final = "unloaded by the inference protocol"
"""The `why` by which `load` knows the pin that it may lift."""


class IndexRequest(msgspec.Struct):
    """Which models to list."""

    ready: bool = False
    """Only those that answer."""


class ParametersRequest(msgspec.Struct):
    """What Triton's clients send along."""

    parameters: dict[str, Any] = {}


Who = Annotated[str, needs("operate")]
Body = TypeVar("Body")
_decode_index: Final = msgspec.json.Decoder(IndexRequest).decode
_decode_parameters: Final = msgspec.json.Decoder(ParametersRequest).decode
router: Final = APIRouter(prefix="/v2/repository", tags=["inference protocol"])


@router.post("/index", dependencies=[Depends(may_look)])
async def index(server: ServerDep, request: Request) -> JSONResponse:
    """Every version in the repository, and whether it answers."""
    body = await _read(request, _decode_index)
    found: list[dict[str, str]] = []
    for _, served in sorted(server.policies.items()):
        folder = server.settings.policies / served.name
        versions: list[int | None] = [*await asyncio.to_thread(versions_in, folder)]
        found += [_state_of(served, version) for version in versions or [None]]
    if body is not None and body.ready:
        found = [each for each in found if each["state"] == "READY"]
    return JSONResponse(found)


@router.post("/models/{model}/load")
async def load(server: ServerDep, who: Who, model: str, request: Request) -> Response:
    """Let the model answer: 200 once it does."""
    body = await _read(request, _decode_parameters)
    if body is not None and body.parameters:
        raise MalformedBodyError(
            f"parameters: expected none, found {next(iter(body.parameters))[:64]!r}; "
            "a model and its configuration come from the repository"
        )
    served = server.policy(model)
    await server.rollout.catch_up()
    if server.rollout.state(model).is_pinned:

        def allow(state: PolicyState) -> None:
            pins = [each for each in server.rollout.entries if each.action == "pin"]
            pin = next(each for each in reversed(pins) if each.policy == model)
            if state.is_pinned and pin.why != UNLOADED:
                raise ConflictError(f"{model} was pinned by {pin.who}: {pin.why}; `unpin` it")

        entry = Entry(action="unpin", policy=model, who=who, why="loaded by the inference protocol")
        await server.rollout.change(entry, allow)
    await server.loader.look()
    wanted = server.rollout.state(model).stable
    if why_not_ready(served) is not None or served.live_version != wanted:
        raise ConflictError(f"{model}: {served.fault or why_not_ready(served)}")
    return Response()


@router.post("/models/{model}/unload")
async def unload(server: ServerDep, who: Who, model: str, request: Request) -> Response:
    """Take the model out of traffic: the heuristic answers."""
    await _read(request, _decode_parameters)
    server.policy(model)
    await server.rollout.catch_up()
    if not server.rollout.state(model).is_pinned:
        await server.rollout.record(Entry(action="pin", policy=model, who=who, why=UNLOADED))
    await server.loader.look()
    return Response()


async def _read(request: Request, decode: Callable[[bytes], Body]) -> Body | None:
    """The body, which clients may leave out."""
    content = await request.body()
    if not content:
        return None
    try:
        return decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBodyError(str(error)) from error


def _state_of(served: ServedPolicy, version: int | None) -> dict[str, str]:
    why = why_not_ready(served)
    if version is None or version != served.live_version:
        why = "not the version that serves" if why is None else why
    return {
        "name": served.name,
        "version": "" if version is None else str(version),
        "state": "READY" if why is None else "UNAVAILABLE",
        "reason": why or "",
    }
