"""KServe: its first protocol's JSON for rows, the Open Inference Protocol's binary for frames."""

from typing import Any

from kserve import (  # type: ignore[import-not-found]
    InferOutput,
    InferRequest,
    InferResponse,
    Model,
    ModelServer,
)

from benchmarks.serving.rivals.decider import open_decider, port, workers


class Policy(Model):  # type: ignore[misc]
    """KServe's own server batches nothing: its batcher is a sidecar of a cluster."""

    def __init__(self) -> None:
        super().__init__("policy")
        self._decider = open_decider()
        self.ready = True

    def predict(
        self, payload: dict[str, Any] | InferRequest, headers: dict[str, str] | None = None
    ) -> dict[str, Any] | InferResponse:
        """Actions of one request."""
        if isinstance(payload, dict):
            return {"actions": self._decider.decide(self._decider.from_rows(payload["instances"]))}
        actions = self._decider.decide(payload.inputs[0].as_numpy())
        output = InferOutput("actions", [len(actions)], "INT64", actions)
        # A request may leave its id out; KServe fails on an answer without one.
        return InferResponse(payload.id or "0", "policy", [output])


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
