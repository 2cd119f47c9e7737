"""MLServer: Open Inference Protocol in JSON, frames as base64; adaptive batching, one process."""

import asyncio
from base64 import b64decode

from mlserver import MLModel, MLServer, ModelSettings, Settings  # type: ignore[import-not-found]
from mlserver.types import (  # type: ignore[import-not-found]
    InferenceRequest,
    InferenceResponse,
    ResponseOutput,
)

from benchmarks.serving.rivals.decider import MAX_BATCH, WAIT_SECONDS, open_decider, port, workers


class Policy(MLModel):  # type: ignore[misc]
    """MLServer joins requests by their first axis and splits the answer the same way."""

    async def load(self) -> bool:
        """Open the model."""
        self._decider = open_decider()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Actions of one joined request."""
        (taken,) = payload.inputs
        data = taken.data.root
        if self._decider.takes_frames:
            observations = self._decider.from_bytes(b"".join(b64decode(frame) for frame in data))
        else:
            observations = self._decider.from_rows(data)
        actions = self._decider.decide(observations)
        output = ResponseOutput(
            name="actions", shape=[len(actions)], datatype="INT64", data=actions
        )
        return InferenceResponse(model_name=self.name, outputs=[output])


async def serve() -> None:
    """Serve until a signal says stop."""
    settings = Settings(
        debug=False,
        host="127.0.0.1",
        http_port=port(),
        grpc_port=port() + 1,
        metrics_port=port() + 2,
        # A pool costs a hop between processes, which one worker does not earn back.
        parallel_workers=workers() if workers() > 1 else 0,
    )
    model = ModelSettings(
        name="policy",
        implementation=Policy,
        max_batch_size=MAX_BATCH,
        max_batch_time=WAIT_SECONDS,
    )
    await MLServer(settings).start([model])


if __name__ == "__main__":
    asyncio.run(serve())
