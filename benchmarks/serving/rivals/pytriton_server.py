"""Triton through pytriton: its Python backend, Open Inference Protocol with binary tensors."""

import numpy as np
from pytriton.decorators import batch  # type: ignore[import-not-found]
from pytriton.model_config import (  # type: ignore[import-not-found]
    DynamicBatcher,
    ModelConfig,
    Tensor,
)
from pytriton.triton import Triton, TritonConfig  # type: ignore[import-not-found]

from benchmarks.serving.rivals.decider import (
    MAX_BATCH,
    WAIT_SECONDS,
    Observations,
    open_decider,
    port,
    workers,
)


def serve() -> None:
    """Serve until a signal says stop."""
    deciders = [open_decider() for _ in range(workers())]

    def decides_with(index: int):  # type: ignore[no-untyped-def]  # pytriton's decorator has no type
        @batch  # type: ignore[untyped-decorator]
        def decide(observations: Observations) -> dict[str, Observations]:
            actions = deciders[index].decide(observations)
            return {"actions": np.array(actions, np.int64)[:, np.newaxis]}

        return decide

    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=port(),
        grpc_port=port() + 1,
        metrics_port=port() + 2,
        allow_metrics=False,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="policy",
            infer_func=[decides_with(index) for index in range(workers())],
            inputs=[
                Tensor(name="observations", dtype=deciders[0].dtype.type, shape=deciders[0].shape)
            ],
            outputs=[Tensor(name="actions", dtype=np.int64, shape=(1,))],
            config=ModelConfig(
                max_batch_size=MAX_BATCH,
                batcher=DynamicBatcher(max_queue_delay_microseconds=round(WAIT_SECONDS * 1e6)),
            ),
        )
        triton.serve()


if __name__ == "__main__":
    serve()
