"""Ray Serve: JSON rows, frames as raw bytes; `@serve.batch` in one replica."""

import json
import signal

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.serving.rivals.decider import (
    MAX_BATCH,
    WAIT_SECONDS,
    Observations,
    open_decider,
    port,
    workers,
)


@serve.deployment(num_replicas=workers(), max_ongoing_requests=1024)
class Policy:
    """One replica."""

    def __init__(self) -> None:
        self._decider = open_decider()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=WAIT_SECONDS)
    async def decide(self, requests: list[Observations]) -> list[list[int]]:
        """Requests to their actions."""
        return self._decider.decide_each(requests)

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        body = await request.body()
        if self._decider.takes_frames:
            observations = self._decider.from_bytes(body)
        else:
            observations = self._decider.from_rows(json.loads(body)["observations"])
        actions = await self.decide(observations)
        return Response(json.dumps({"actions": actions}), media_type="application/json")


def run() -> None:
    """Serve until a signal says stop."""
    ray.init(include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    serve.start(http_options={"host": "127.0.0.1", "port": port(), "access_log": False})
    serve.run(Policy.bind(), route_prefix="/decide")  # type: ignore[attr-defined]
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    serve.shutdown()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    run()
