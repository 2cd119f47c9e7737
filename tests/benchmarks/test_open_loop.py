"""The open loop against small real servers."""

import asyncio

import numpy as np
import pytest
import uvloop

from benchmarks.serving.open_loop import OpenLoad, OpenLoop
from benchmarks.serving.rivals.wire import Request

MODEL = b'{"answered_by":[{"source":"model"}]}'
HEURISTIC = b'{"answered_by":[{"source":"heuristic"}]}'


def answer(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %b X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def run(answers: list[list[bytes]], *, connections: int, pause_seconds: float = 0.0) -> OpenLoad:
    """Send one request for each answer at 1,000 a second; an answer comes in its pieces."""
    left = iter(answers)
    hung_up = asyncio.Semaphore(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            await asyncio.sleep(pause_seconds)
            for piece in next(left):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.001)
        writer.close()
        hung_up.release()

    async def both() -> OpenLoad:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        loop = OpenLoop(
            f"http://127.0.0.1:{port}",
            [Request("/", b"{}")],
            rate=1000,
            seconds=len(answers) / 1000,
            rng=np.random.default_rng(0),
            connections=connections,
        )
        load = await loop.run()
        for _ in range(connections):
            await hung_up.acquire()
        server.close()
        return load

    return uvloop.run(both())


def test_a_request_is_charged_for_those_before_it() -> None:
    load = run([[answer(b"200", MODEL)]] * 5, connections=1, pause_seconds=0.02)
    # Counted from when it was sent, the last would have waited 20 ms as the first did.
    assert load.latency[-1] >= 5 * 0.02 - load.seconds


def test_who_chose_is_told_apart() -> None:
    load = run([[answer(b"200", MODEL)], [answer(b"200", HEURISTIC)]], connections=1)
    assert load.from_model.tolist() == [True, False]
    assert load.from_heuristic.tolist() == [False, True]


def test_a_refusal_keeps_its_status() -> None:
    load = run([[answer(b"429", b"{}")], [answer(b"200", MODEL)]], connections=1)
    assert load.status.tolist() == [429, 200]


@pytest.mark.parametrize("cut", [5, 20, 45])
def test_an_answer_in_pieces_is_one_answer(cut: int) -> None:
    whole = answer(b"200", MODEL)
    load = run([[whole[:cut], whole[cut:]], [whole]], connections=1)
    assert load.status.tolist() == [200, 200]
    assert load.from_model.all()


def test_the_same_generator_gives_the_same_arrivals() -> None:
    first, second = (run([[answer(b"200", MODEL)]] * 4, connections=4) for _ in range(2))
    np.testing.assert_allclose(np.diff(first.due), np.diff(second.due), atol=1e-9)
