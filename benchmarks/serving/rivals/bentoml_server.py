"""BentoML: JSON rows, frames as base64 in JSON; `bentoml serve` starts it."""

from base64 import b64decode

import bentoml  # type: ignore[import-not-found]
import numpy as np
import numpy.typing as npt

from benchmarks.serving.rivals.decider import MAX_BATCH, open_decider, workers


@bentoml.service(workers=workers(), logging={"access": {"enabled": False}})
class Policy:
    """Two interfaces on one model: BentoML's types are fixed where the class is made."""

    def __init__(self) -> None:
        self._decider = open_decider()

    # BentoML has no waiting time: it learns one, under a latency beyond which it refuses.
    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=10_000)  # type: ignore[untyped-decorator]
    def decide(self, observations: npt.NDArray[np.float32]) -> list[int]:
        """Actions of rows."""
        return self._decider.decide(self._decider.from_rows(observations))

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=10_000)  # type: ignore[untyped-decorator]
    def decide_frames(self, frames: list[str]) -> list[int]:
        """Actions of frame stacks."""
        content = b"".join(b64decode(frame) for frame in frames)
        return self._decider.decide(self._decider.from_bytes(content))
