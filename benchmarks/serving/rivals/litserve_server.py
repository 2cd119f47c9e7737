"""LitServe: JSON rows, frames as base64 in JSON."""

from base64 import b64decode
from typing import Any

import litserve  # type: ignore[import-not-found]

from benchmarks.serving.rivals.decider import (
    MAX_BATCH,
    WAIT_SECONDS,
    Observations,
    open_decider,
    port,
    workers,
)


class Policy(litserve.LitAPI):  # type: ignore[misc]
    """The five steps that LitServe asks for."""

    def setup(self, device: str) -> None:
        """Open the model in the worker that will run it."""
        self._decider = open_decider()

    def decode_request(self, request: dict[str, Any]) -> Observations:
        """A request's body to observations."""
        if self._decider.takes_frames:
            return self._decider.from_bytes(b64decode(request["frames"]))
        return self._decider.from_rows(request["observations"])

    def batch(self, inputs: list[Observations]) -> list[Observations]:
        """Requests may hold several rows, so they stay a list."""
        return inputs

    def predict(self, inputs: list[Observations]) -> list[list[int]]:
        """Requests to their actions."""
        return self._decider.decide_each(inputs)

    def unbatch(self, output: list[list[int]]) -> list[list[int]]:
        """One list of actions a request."""
        return output

    def encode_response(self, output: list[int]) -> dict[str, list[int]]:
        """Actions to a response's body."""
        return {"actions": output}


def serve() -> None:
    """Serve until a signal says stop."""
    policy = Policy(max_batch_size=MAX_BATCH, batch_timeout=WAIT_SECONDS, api_path="/decide")
    server = litserve.LitServer(
        policy, accelerator="cpu", workers_per_device=workers(), fast_queue=True
    )
    server.run(
        host="127.0.0.1",
        port=port(),
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )


if __name__ == "__main__":
    serve()
