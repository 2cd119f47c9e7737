"""mosec: JSON through msgspec (its own default is the standard library's), frames as raw bytes."""

import msgspec
from mosec import Server, Worker  # type: ignore[import-not-found]

from benchmarks.serving.rivals.decider import (
    MAX_BATCH,
    WAIT_SECONDS,
    Observations,
    open_decider,
    workers,
)


class Rows(msgspec.Struct):
    """A body of JSON."""

    observations: list[list[float]]


class Policy(Worker):  # type: ignore[misc]
    """One process; mosec hands it up to MAX_BATCH requests at once."""

    def __init__(self) -> None:
        super().__init__()
        self._decider = open_decider()
        self._decode = msgspec.json.Decoder(Rows).decode
        self._encode = msgspec.json.Encoder().encode

    def deserialize(self, data: bytes) -> Observations:
        """A request's body to observations."""
        if self._decider.takes_frames:
            return self._decider.from_bytes(data)
        return self._decider.from_rows(self._decode(data).observations)

    def forward(self, data: list[Observations]) -> list[list[int]]:
        """Requests to their actions."""
        return self._decider.decide_each(data)

    def serialize(self, data: list[int]) -> bytes:
        """Actions to a response's body."""
        return self._encode({"actions": data})


def serve() -> None:
    """Serve until a signal says stop. The port is mosec's own argument."""
    server = Server()
    server.append_worker(
        Policy,
        num=workers(),
        max_batch_size=MAX_BATCH,
        max_wait_time=round(WAIT_SECONDS * 1000),
        route="/decide",
    )
    server.run()


if __name__ == "__main__":
    serve()
