"""Talks to a server with the real `tritonclient`, and prints what each case came to as JSON.

Run by the clients' own Python, which has nothing of this project: `script <host:port>`.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import tritonclient.http as http  # type: ignore[import-not-found]
import tritonclient.http.aio as aio  # type: ignore[import-not-found]
from tritonclient.utils import InferenceServerException  # type: ignore[import-not-found]

LEFT, RIGHT = [0.0, 0.0, -0.1, 0.0], [0.0, 0.0, 0.1, 0.0]
MODEL = "cartpole"


def inputs(rows: Any, datatype: str = "FP32", *, is_binary: bool = True) -> list[Any]:
    dtype = {"FP32": np.float32, "FP64": np.float64}[datatype]
    array = np.array(rows, dtype=dtype)
    made = http.InferInput("observations", list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=is_binary)
    return [made]


def outputs(**binary: bool) -> list[Any]:
    return [http.InferRequestedOutput(name, binary_data=each) for name, each in binary.items()]


def told(result: Any) -> dict[str, Any]:
    arrays = {name: result.as_numpy(name) for name in ("actions", "q_values")}
    found = {name: None if each is None else each.tolist() for name, each in arrays.items()}
    return found | {"response": result.get_response()}


INFERENCES: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    # (positional, keyword) arguments of `infer`, the same for both clients
    "binary": ((MODEL, inputs([LEFT, RIGHT])), {}),
    "json": (
        (MODEL, inputs([LEFT, RIGHT], is_binary=False)),
        {"outputs": outputs(actions=False, q_values=False)},
    ),
    "mixed": (
        (MODEL, inputs([LEFT, RIGHT])),
        {"outputs": outputs(actions=False, q_values=True)},
    ),
    "only_actions": ((MODEL, inputs([LEFT, RIGHT])), {"outputs": outputs(actions=True)}),
    "gzip": (
        (MODEL, inputs([LEFT, RIGHT] * 100)),
        {"request_compression_algorithm": "gzip", "response_compression_algorithm": "gzip"},
    ),
    "deflate": (
        (MODEL, inputs([LEFT, RIGHT] * 100)),
        {"request_compression_algorithm": "deflate", "response_compression_algorithm": "deflate"},
    ),
    "sequence": (
        (MODEL, inputs([LEFT, RIGHT])),
        {"sequence_id": 7, "sequence_start": True, "priority": 1, "timeout": 900_000},
    ),
    "parameters": (
        (MODEL, inputs([RIGHT])),
        {"request_id": "r/1 é", "parameters": {"episode_id": "e1", "step": 3, "explore": True}},
    ),
    "version": ((MODEL, inputs([LEFT, RIGHT])), {"model_version": "1"}),
    "double": ((MODEL, inputs([LEFT, RIGHT], "FP64")), {}),
    "unknown_model": (("pong", inputs([LEFT])), {}),
    "unknown_version": ((MODEL, inputs([LEFT])), {"model_version": "2"}),
    "bad_shape": ((MODEL, inputs(LEFT)), {}),
    "bad_number": ((MODEL, inputs([[0.0, float("nan"), 0.0, 0.0]])), {}),
    "unknown_output": ((MODEL, inputs([LEFT])), {"outputs": outputs(values=True)}),
}


def attempt(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except InferenceServerException as error:
        return {"status": error.status(), "error": error.message()}


def infer(client: Any, *positional: Any, **keyword: Any) -> dict[str, Any]:
    return told(client.infer(*positional, **keyword))


def converse(client: Any) -> dict[str, Any]:
    cases: dict[str, Callable[[], Any]] = {
        "live": client.is_server_live,
        "ready": client.is_server_ready,
        "model_ready": lambda: client.is_model_ready(MODEL),
        "version_ready": lambda: client.is_model_ready(MODEL, "1"),
        "other_version_ready": lambda: client.is_model_ready(MODEL, "2"),
        "server_metadata": client.get_server_metadata,
        "metadata": lambda: client.get_model_metadata(MODEL),
        "unknown_metadata": lambda: client.get_model_metadata("pong"),
        "config": lambda: client.get_model_config(MODEL),
        "index": client.get_model_repository_index,
    }
    for name, (positional, keyword) in INFERENCES.items():
        cases[name] = partial(infer, client, *positional, **keyword)
    cases |= {
        "asynchronous": lambda: told(client.async_infer(MODEL, inputs([RIGHT])).get_result()),
        "statistics": lambda: client.get_inference_statistics(MODEL),
        "all_statistics": client.get_inference_statistics,
        "unload": lambda: client.unload_model(MODEL),
        "unloaded_ready": lambda: client.is_model_ready(MODEL),
        "unloaded_index": client.get_model_repository_index,
        "heuristic": lambda: told(client.infer(MODEL, inputs([LEFT]))),
        "load": lambda: client.load_model(MODEL),
        "loaded_ready": lambda: client.is_model_ready(MODEL),
        "load_with_config": lambda: client.load_model(MODEL, config="{}"),
        "load_unknown": lambda: client.load_model("pong"),
        "trace": client.get_trace_settings,
    }
    return {name: attempt(call) for name, call in cases.items()}


async def converse_async(address: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    async with aio.InferenceServerClient(address) as client:
        cases: dict[str, Callable[[], Any]] = {
            "live": client.is_server_live,
            "ready": client.is_server_ready,
            "model_ready": lambda: client.is_model_ready(MODEL, "1"),
            "metadata": lambda: client.get_model_metadata(MODEL),
            "config": lambda: client.get_model_config(MODEL),
            "statistics": lambda: client.get_inference_statistics(MODEL),
            "index": client.get_model_repository_index,
            "unload": lambda: client.unload_model(MODEL),
            "unloaded_ready": lambda: client.is_model_ready(MODEL),
            "load": lambda: client.load_model(MODEL),
        }
        for name, call in cases.items():
            found[name] = await call()
        for name, (positional, keyword) in INFERENCES.items():
            try:
                found[name] = told(await client.infer(*positional, **keyword))
            except InferenceServerException as error:
                found[name] = {"status": error.status(), "error": error.message()}
    return found


def main(address: str) -> None:
    client = http.InferenceServerClient(address)
    found = {"sync": converse(client), "aio": asyncio.run(converse_async(address))}
    client.close()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
