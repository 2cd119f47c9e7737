"""Open-loop load: requests start when they are due, whether or not earlier ones are answered.

Arrivals are Poisson. Latency counts from the moment a request was due, so that a server which
stalls is charged for everybody who would have come meanwhile (no coordinated omission). One
process with raw asyncio protocols and requests made beforehand; `OpenLoad.lateness` and
`generator_cpu_share` tell whether it kept up.
"""

import asyncio
import ctypes
import gc
import os
import re
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.serving.rivals.wire import Request

_PATIENCE_SECONDS: Final = 5.0
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOCK_MONOTONIC: Final = 1
_ABSOLUTE: Final = 1

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class OpenLoad:
    """What was found; every array has one entry a request, in the order they were due."""

    due: FloatArray
    """`time.perf_counter()` at which the request was to start."""
    lateness: FloatArray
    """Seconds from due to the moment the generator took note: its own delay, and nobody else's."""
    queueing: FloatArray
    """Seconds from then to sent: no connection was free."""
    latency: FloatArray
    """Seconds from due to the answer's last byte; NaN where none came."""
    status: npt.NDArray[np.int64]
    """HTTP status; 0 where no answer came."""
    from_model: npt.NDArray[np.bool_]
    from_heuristic: npt.NDArray[np.bool_]
    generator_cpu_share: float
    """Of one core."""

    def percentile_ms(self, percent: float, where: npt.NDArray[np.bool_] | None = None) -> float:
        """A percentile of the latency of answers, in milliseconds, over some requests or all."""
        latency = self.latency if where is None else self.latency[where]
        return float(np.nanpercentile(latency, percent) * 1000)

    @property
    def seconds(self) -> float:
        """From the first to the last request."""
        return float(self.due[-1] - self.due[0])


class OpenLoop:
    """One run against one server."""

    def __init__(
        self,
        url: str,
        requests: Sequence[Request],
        rate: float,
        seconds: float,
        rng: np.random.Generator,
        connections: int = 512,
    ) -> None:
        self._host, _, port = url.removeprefix("http://").partition(":")
        self._port = int(port)
        self._payloads = [_payload(self._host, request) for request in requests]
        self._gaps = rng.exponential(1 / rate, size=max(1, round(rate * seconds)))
        self._num_connections = connections
        self._due: list[float] = []
        self._next = 0
        self._stopped = False
        self._in_flight = 0
        self._waiting: deque[int] = deque()
        self.noted_at: list[float] = []
        self.sent_at: list[float] = []
        self.answered_at: list[float] = []
        self.answers: list[tuple[int, bool, bool]] = []
        self._idle: deque[_Connection] = deque()

    def stop(self) -> None:
        """Start no more requests; those that were due so far are all there is."""
        self._stopped = True

    async def run(self) -> OpenLoad:
        """Send everything when it is due and wait for the answers."""
        loop = asyncio.get_running_loop()
        self._finished = loop.create_future()
        transports = [
            (await loop.create_connection(lambda: _Connection(self), self._host, self._port))[0]
            for _ in range(self._num_connections)
        ]
        timer = _Timer()
        loop.add_reader(timer.descriptor, self._send_due, timer)
        # A collection of the whole heap would look like a slow server.
        gc.collect()
        gc.disable()
        began_at, cpu_before = time.perf_counter() + 0.05, time.process_time()
        self._due = (began_at + np.cumsum(self._gaps)).tolist()
        self.noted_at = [np.nan] * len(self._due)
        self.sent_at = [np.nan] * len(self._due)
        self.answered_at = [np.nan] * len(self._due)
        self.answers = [(0, False, False)] * len(self._due)
        timer.arm(self._due[0])
        try:
            await self._finished
            cpu_share = (time.process_time() - cpu_before) / (time.perf_counter() - began_at)
        finally:
            gc.enable()
            loop.remove_reader(timer.descriptor)
            timer.close()
            for transport in transports:
                transport.close()
            # Closing takes a turn of the loop.
            await asyncio.sleep(0)
        return self._found(cpu_share)

    def _send_due(self, timer: "_Timer") -> None:
        timer.acknowledge()
        now, due, count = time.perf_counter(), self._due, len(self._due)
        if self._stopped:
            count = self._next
        while self._next < count and due[self._next] <= now:
            self._waiting.append(self._next)
            self.noted_at[self._next] = now
            self._next += 1
        self._send_waiting()
        if self._next < count:
            timer.arm(due[self._next])
            return
        self._stopped = True
        loop = asyncio.get_running_loop()
        loop.call_later(_PATIENCE_SECONDS, self._finish)
        self._finish_if_answered()

    def _send_waiting(self) -> None:
        while self._waiting and self._idle:
            number = self._waiting.popleft()
            self._in_flight += 1
            self._idle.popleft().send(number, self._payloads[number % len(self._payloads)])

    def offer(self, connection: "_Connection") -> None:
        """A connection is free."""
        self._idle.append(connection)
        self._send_waiting()

    def answered(self, connection: "_Connection") -> None:
        """A connection has its answer."""
        self._in_flight -= 1
        self.offer(connection)
        self._finish_if_answered()

    def _finish_if_answered(self) -> None:
        if self._stopped and not self._in_flight and not self._waiting:
            self._finish()

    def _finish(self) -> None:
        if not self._finished.done():
            self._finished.set_result(None)

    def _found(self, cpu_share: float) -> OpenLoad:
        started = self._next
        due = np.array(self._due[:started])
        status, from_model, from_heuristic = zip(*self.answers[:started], strict=True)
        return OpenLoad(
            due=due,
            lateness=np.array(self.noted_at[:started]) - due,
            queueing=np.array(self.sent_at[:started]) - np.array(self.noted_at[:started]),
            latency=np.array(self.answered_at[:started]) - due,
            status=np.array(status),
            from_model=np.array(from_model),
            from_heuristic=np.array(from_heuristic),
            generator_cpu_share=cpu_share,
        )


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on it."""

    def __init__(self, loop: OpenLoop) -> None:
        self._loop = loop
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._loop.offer(self)

    def send(self, number: int, payload: bytes) -> None:
        self._number = number
        self._transport.write(payload)  # type: ignore[attr-defined]  # it is a Transport
        self._loop.sent_at[number] = time.perf_counter()

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data
        head_end = data.find(b"\r\n\r\n")
        length = _LENGTH.search(data, 0, head_end + 2) if head_end > 0 else None
        if length is None or len(data) < head_end + 4 + int(length[1]):
            self._buffer = data
            return
        self._buffer = b""
        self._loop.answered_at[self._number] = time.perf_counter()
        self._loop.answers[self._number] = (
            int(data[9:12]),
            data.find(b'"source":"model"', head_end) > 0,
            data.find(b'"source":"heuristic"', head_end) > 0,
        )
        self._loop.answered(self)


class _Timer:
    """A kernel timer that a loop can wait for: the loops' own know only milliseconds."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor: int = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK)
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        # Interval seconds and nanoseconds, both 0: it fires once; then when it fires.
        self._setting = (ctypes.c_long * 4)()

    def arm(self, at: float) -> None:
        """Become readable at a time of `time.perf_counter()`; at once if that is past."""
        seconds = int(at)
        self._setting[2], self._setting[3] = seconds, max(1, int((at - seconds) * 1e9))
        self._libc.timerfd_settime(self.descriptor, _ABSOLUTE, self._setting, None)

    def acknowledge(self) -> None:
        """Be no longer readable."""
        os.read(self.descriptor, 8)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.descriptor)


def _payload(host: str, request: Request) -> bytes:
    lines = [f"POST {request.path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    lines += [f"Content-Length: {len(request.body)}", "", ""]
    return "\r\n".join(lines).encode() + request.body
