"""KServe: its first protocol's JSON, frames as base64: binary tensors of its second are slower."""

from base64 import b64decode
from typing import Any

from kserve import Model, ModelServer  # type: ignore[import-not-found]

from benchmarks.serving.rivals.decider import open_decider, port, workers


class Policy(Model):  # type: ignore[misc]
    """KServe's own server batches nothing: its batcher is a sidecar of a cluster."""

    def __init__(self) -> None:
        super().__init__("policy")
        self._decider = open_decider()
        self.ready = True

    def predict(
        self, payload: dict[str, Any], headers: dict[str, str] | None = None
    ) -> dict[str, list[int]]:
        """Actions of one request."""
        instances = payload["instances"]
        if self._decider.takes_frames:
            observations = self._decider.from_bytes(b"".join(map(b64decode, instances)))
        else:
            observations = self._decider.from_rows(instances)
        return {"actions": self._decider.decide(observations)}


def serve() -> None:
    """Serve until a signal says stop."""
    ModelServer(
        http_port=port(),
        workers=workers(),
        enable_grpc=False,
        enable_latency_logging=False,
        event_loop="uvloop",
    ).start([Policy()])


if __name__ == "__main__":
    serve()
