"""OpenAPI of the hot routes: schemas from the very structs that decode them, and examples."""

from typing import Any, Final

import msgspec

from service.faces.actions import ActionsRequest, ActionsResponse
from service.faces.inference_answers import InferResponse
from service.faces.inference_protocol import InferRequest
from service.faces.outcomes import (
    OutcomeBody,
    OutcomesRequest,
    ResultsResponse,
    TransitionBody,
    TransitionsRequest,
)
from service.faces.steps import StepRequest, StepResponse

_INFER: Final[tuple[type, type, dict[str, Any]]] = (
    InferRequest,
    InferResponse,
    {
        "inputs": [
            {
                "name": "observations",
                "datatype": "FP32",
                "shape": [1, 4],
                "data": [0.01, -0.02, 0.03, 0.04],
            }
        ]
    },
)
_NUMBERS: Final = {"type": "array", "items": {}, "description": "Nested arrays of numbers."}

_BODIES: Final[dict[str, tuple[type, type, dict[str, Any]]]] = {
    "/v1/actions": (
        ActionsRequest,
        ActionsResponse,
        {"observations": [[0.01, -0.02, 0.03, 0.04]]},
    ),
    "/v1/episodes/{episode_id}/steps": (
        StepRequest,
        StepResponse,
        {"step": 0, "observation": [0.01, -0.02, 0.03, 0.04]},
    ),
    "/v2/models/{model}/infer": _INFER,
    "/v2/models/{model}/versions/{version}/infer": _INFER,
    "/v1/outcomes": (
        OutcomesRequest,
        ResultsResponse,
        {"outcomes": [{"episode_id": "episode-1", "step": 0, "reward": 1.0}]},
    ),
    "/v1/transitions": (
        TransitionsRequest,
        ResultsResponse,
        {
            "transitions": [
                {
                    "transition_id": "transition-1",
                    "observation": [0.01, -0.02, 0.03, 0.04],
                    "action": 1,
                    "reward": 1.0,
                    "next_observation": [0.01, 0.17, 0.03, -0.24],
                }
            ]
        },
    ),
}
# The lists of outcomes and transitions are decoded one by one, so that one spoils no other.
_ENTRIES: Final = {
    "/v1/outcomes": ("outcomes", OutcomeBody),
    "/v1/transitions": ("transitions", TransitionBody),
}


def body_schema(path: str) -> dict[str, Any]:
    """The requestBody of a hot route; its example works when pasted, on CartPole."""
    kind, _, example = _BODIES[path]
    schema = _inline_schema(kind)
    if path in _ENTRIES:
        name, entry = _ENTRIES[path]
        schema["properties"][name] = {"type": "array", "items": _inline_schema(entry)}
    return {
        "required": True,
        "content": {"application/json": {"schema": schema, "example": example}},
    }


def response_schema(path: str) -> dict[str, Any]:
    """The 200 response of a hot route."""
    _, kind, _ = _BODIES[path]
    return {
        "description": "Answered.",
        "content": {"application/json": {"schema": _inline_schema(kind)}},
    }


def _inline_schema(kind: type) -> dict[str, Any]:
    """A JSON schema without references: FastAPI keeps its own list of components."""
    schemas, components = msgspec.json.schema_components(
        [kind], schema_hook=lambda _: _NUMBERS, ref_template="{name}"
    )
    return _resolve(schemas[0], components)  # type: ignore[no-any-return]


def _resolve(schema: Any, components: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_resolve(each, components) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _resolve(components[schema["$ref"]], components)
    return {name: _resolve(value, components) for name, value in schema.items()}
