"""Probes and `/metrics`: is the process alive, may it get traffic, what does it count.

They need no key: a probe has none.
"""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client.exposition import choose_encoder

from service.faces.access import ServerDep

router = APIRouter(tags=["health"])


@router.get("/livez")
async def livez() -> JSONResponse:
    """The process runs; says nothing of models, Redis or disks."""
    return JSONResponse({"live": True})


@router.get("/readyz")
@router.get("/healthz", include_in_schema=False)
async def readyz(server: ServerDep) -> JSONResponse:
    """200 while a valid action can be given, by the model or by the heuristic."""
    degradations = server.degradations()
    is_ready = server.state == "ready" and bool(server.policies)
    body = {
        "ready": is_ready,
        "state": server.state,
        "degraded": bool(degradations),
        "why": degradations,
    }
    return JSONResponse(body, status_code=200 if is_ready else 503)


@router.get("/metrics", response_class=Response)
async def metrics(server: ServerDep, request: Request) -> Response:
    """All workers' metrics, in Prometheus's or OpenMetrics' text format."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    # Not as media_type: Starlette would append a second charset to it.
    return Response(encode(server.metrics.registry), headers={"content-type": content_type})
