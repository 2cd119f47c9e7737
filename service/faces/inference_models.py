"""What the Open Inference Protocol tells of models: health, metadata, configuration, statistics.

Paths and fields are the protocol's and Triton's extensions'. Its clients count anything but a 200
as an error, and find what went wrong in the string `error`.
"""

from importlib.metadata import version as release_of
from typing import Annotated, Any, Final

import numpy as np
from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import JSONResponse

from contract.manifest import ACTION_MASK, ACTIONS, OBSERVATIONS, Q_VALUES
from service.errors import ForbiddenError, NotReadyError
from service.faces.access import ServerDep
from service.faces.inference_protocol import find_model, serving_version
from service.faces.inference_tensors import datatype_of
from service.inference.served import ServedPolicy
from service.server import Server

_EXTENSIONS: Final = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "parameters",
    "statistics",
)
_SECONDS: Final = {
    "success": "dqn_decision_seconds",
    "queue": "dqn_queue_seconds",
    "compute_infer": "dqn_inference_seconds",
}
_NOT_TIMED: Final = ("compute_input", "compute_output", "cache_hit", "cache_miss")


def may_look(
    server: ServerDep, authorization: Annotated[str | None, Header(include_in_schema=False)] = None
) -> None:
    """Refuse a key with neither `read` nor `act`: a client asks for the shapes before it acts."""
    header = None if authorization is None else authorization.encode()
    try:
        server.keys.authorise(header, "read")
    except ForbiddenError:
        server.keys.authorise(header, "act")


def addressed_model(server: ServerDep, request: Request) -> ServedPolicy:
    """The model in the path and, where the path has one, its version."""
    path = request.path_params
    return find_model(server, path["model"], path.get("version"))


ModelDep = Annotated[ServedPolicy, Depends(addressed_model)]
_probes: Final = APIRouter(prefix="/v2", tags=["inference protocol"])
_models: Final = APIRouter(
    prefix="/v2", tags=["inference protocol"], dependencies=[Depends(may_look)]
)


@_probes.get("/health/live")
async def live() -> JSONResponse:
    """The process runs."""
    return JSONResponse({"live": True})


@_probes.get("/health/ready")
async def ready(server: ServerDep) -> JSONResponse:
    """200 while a valid action can be given, by the model or by the heuristic."""
    if server.state == "ready" and server.policies:
        return JSONResponse({"ready": True, "live": True})
    why = "no policy is declared" if server.state == "ready" else f"the server is {server.state}"
    return _not_ready({}, why)


@_models.get("")
async def server_metadata() -> JSONResponse:
    """What serves, and the extensions that it has."""
    return JSONResponse(
        {
            "name": "dqn-serving",
            "version": release_of("dqn-serving"),
            "extensions": list(_EXTENSIONS),
        }
    )


@_models.get("/models")
async def list_models(server: ServerDep) -> JSONResponse:
    """The names of all models."""
    return JSONResponse({"models": sorted(server.policies)})


# Before the models, or it would be one of that name.
@_models.get("/models/stats")
async def all_statistics(server: ServerDep) -> JSONResponse:
    """The statistics of all models."""
    found = [_statistics(server, served) for _, served in sorted(server.policies.items())]
    return JSONResponse({"model_stats": found})


@_models.get("/models/{model}")
@_models.get("/models/{model}/versions/{version}")
async def metadata(server: ServerDep, served: ModelDep) -> JSONResponse:
    """The tensors of a model; -1 is the batch axis."""
    version = serving_version(server, served)
    inputs, outputs = tensors_of(served)
    return JSONResponse(
        {
            "name": served.name,
            "versions": [] if version is None else [version],
            "platform": "onnxruntime_onnx",
            "inputs": [_described(*tensor) for tensor in inputs],
            "outputs": [_described(*tensor) for tensor in outputs],
        }
    )


@_models.get("/models/{model}/ready")
@_models.get("/models/{model}/versions/{version}/ready")
async def model_ready(served: ModelDep) -> JSONResponse:
    """200 while the model answers; while only the heuristic does, 503 and why."""
    why = why_not_ready(served)
    if why is not None:
        return _not_ready({"name": served.name}, why)
    return JSONResponse({"name": served.name, "ready": True})


@_models.get("/models/{model}/config")
@_models.get("/models/{model}/versions/{version}/config")
async def configuration(server: ServerDep, served: ModelDep) -> JSONResponse:
    """A model's configuration as Triton words it."""
    inputs, outputs = tensors_of(served)
    return JSONResponse(
        {
            "name": served.name,
            "platform": "onnxruntime_onnx",
            "backend": "onnxruntime",
            "max_batch_size": server.settings.rows_max,
            "input": [
                _configured(*tensor) | {"optional": tensor[0] == ACTION_MASK} for tensor in inputs
            ],
            "output": [_configured(*tensor) for tensor in outputs],
            "dynamic_batching": {},
        }
    )


@_models.get("/models/{model}/stats")
@_models.get("/models/{model}/versions/{version}/stats")
async def statistics(server: ServerDep, served: ModelDep) -> JSONResponse:
    """A model's statistics since the service started, of all workers."""
    return JSONResponse({"model_stats": [_statistics(server, served)]})


def why_not_ready(served: ServedPolicy) -> str | None:
    """Why the heuristic answers instead of the model; None where the model does."""
    if served.batcher.is_pinned:
        return "pinned to the heuristic"
    if served.live_version is None:
        return served.fault or "no version serves"
    return None


Tensor = tuple[str, str, list[int]]
"""Name, datatype, shape of one row."""


def tensors_of(served: ServedPolicy) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs of a policy."""
    observation, actions = served.declaration.observation, served.declaration.actions
    inputs = [(OBSERVATIONS, datatype_of(observation.numpy_dtype), list(observation.shape))]
    if actions.masked:
        inputs.append((ACTION_MASK, datatype_of(np.bool_), [actions.count]))
    outputs: list[Tensor] = [
        (ACTIONS, datatype_of(np.int64), []),
        (Q_VALUES, datatype_of(np.float32), [actions.count]),
    ]
    return inputs, outputs


def _described(name: str, datatype: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [-1, *shape]}


def _configured(name: str, datatype: str, shape: list[int]) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "data_type": f"TYPE_{datatype}", "dims": shape or [1]}
    # Triton wants no empty `dims`.
    return found if shape else found | {"reshape": {"shape": []}}


def _not_ready(fields: dict[str, Any], why: str) -> JSONResponse:
    error = NotReadyError(why)
    body = fields | {"ready": False, "error": str(error), "code": error.code}
    return JSONResponse(body, error.status, dict(error.headers))


def _statistics(server: Server, served: ServedPolicy) -> dict[str, Any]:
    """Counts are of the policy, whatever version answered; `fail` counts the rows refused."""
    samples = {
        sample.name: sample.value
        for family in server.metrics.collect()
        for sample in family.samples
        if sample.labels == {"policy": served.name}
    }
    timed = {
        name: _duration(samples[f"{series}_count"], samples[f"{series}_sum"])
        for name, series in _SECONDS.items()
    }
    others = {name: _duration(0, 0) for name in _NOT_TIMED}
    return {
        "name": served.name,
        "version": serving_version(server, served) or "",
        "inference_count": int(samples["dqn_batch_rows_sum"]),
        "execution_count": int(samples["dqn_batch_rows_count"]),
        "inference_stats": timed | others | {"fail": _duration(samples["dqn_shed_total"], 0)},
        "batch_stats": [],
    }


def _duration(count: float, seconds: float) -> dict[str, int]:
    return {"count": int(count), "ns": round(seconds * 1e9)}


router: Final = APIRouter()
router.include_router(_probes)
router.include_router(_models)
