"""Talks to a server with KServe's real REST client, and prints what each case came to as JSON.

Run by the clients' own Python, which has nothing of this project: `script <host:port>`.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import numpy as np
from kserve import (  # type: ignore[import-not-found]
    InferenceRESTClient,
    InferInput,
    InferRequest,
    RESTConfig,
)

LEFT, RIGHT = [0.0, 0.0, -0.1, 0.0], [0.0, 0.0, 0.1, 0.0]
MODEL = "cartpole"


def request(rows: Any, *, is_binary: bool, **fields: Any) -> Any:
    array = np.array(rows, dtype=np.float32)
    made = InferInput("observations", list(array.shape), "FP32")
    made.set_data_from_numpy(array, binary_data=is_binary)
    return InferRequest(model_name=MODEL, infer_inputs=[made], **fields)


def told(response: Any) -> dict[str, Any]:
    found = {output.name: output.as_numpy().tolist() for output in response.outputs}
    return found | {
        "id": response.id,
        "model_name": response.model_name,
        "parameters": response.parameters,
    }


async def converse(url: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as client:

        async def infer(asked: Any, model: str = MODEL) -> dict[str, Any]:
            return told(await client.infer(url, asked, model_name=model))

        cases: dict[str, Callable[[], Awaitable[Any]]] = {
            "live": lambda: client.is_server_live(url),
            "ready": lambda: client.is_server_ready(url),
            "model_ready": lambda: client.is_model_ready(url, MODEL),
            "unknown_ready": lambda: client.is_model_ready(url, "pong"),
            "json": lambda: infer(request([LEFT, RIGHT], is_binary=False, request_id="r1")),
            "binary": lambda: infer(
                request(
                    [LEFT, RIGHT] * 100,
                    is_binary=True,
                    parameters={"binary_data_output": True},
                )
            ),
            "unknown_model": lambda: infer(request([LEFT], is_binary=False), "pong"),
            "bad_shape": lambda: infer(request(LEFT, is_binary=True)),
        }
        for name, call in cases.items():
            try:
                found[name] = await call()
            except httpx.HTTPStatusError as error:
                found[name] = {"status": error.response.status_code, "error": str(error)}
    return found


if __name__ == "__main__":
    json.dump(asyncio.run(converse(f"http://{sys.argv[1]}")), sys.stdout)
