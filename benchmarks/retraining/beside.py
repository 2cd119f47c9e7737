"""What a cycle that trains beside a live service costs its slowest answers.

Open-loop turns with the cycle and without it, one after the other: it is halted for the latter by a
signal, so that both have the same server, the same log and the same hour.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks.report import Figure
from benchmarks.retraining.cycles import CYCLES
from benchmarks.retraining.mediocre import write_first_version
from benchmarks.retraining.poles import HEALTHY, POLICY, Poles
from benchmarks.retraining.ring import ONE_THREAD, is_ready, write_declaration
from benchmarks.serving.open_loop import OpenLoop
from benchmarks.serving.processes import cpu_seconds, free_port, server_process
from benchmarks.serving.rivals.wire import Request
from dqn_client import Client

LARGEST_RISE: Final = 0.1
_START_SECONDS: Final = 180.0
_RATE: Final = 200.0
_CONNECTIONS: Final = 16
_RESAMPLES: Final = 2_000
_SEAL_SECONDS: Final = 4.0
_LOOK_SECONDS: Final = 0.2
_PATIENCE_SECONDS: Final = 300.0


class Turns(NamedTuple):
    """How long is measured."""

    pairs: int
    seconds: float
    """Of one turn."""
    log_steps: int


TURNS: Final = Turns(pairs=12, seconds=5.0, log_steps=30_000)
QUICK_TURNS: Final = Turns(pairs=1, seconds=2.0, log_steps=30_000)


class Pair(NamedTuple):
    """Latencies of two turns, in seconds; NaN where no answer came."""

    alone: npt.NDArray[np.float64]
    beside: npt.NDArray[np.float64]
    cycle_share: float
    """Of one core, that the cycle got while it ran."""


def measure_beside(folder: Path, turns: Turns) -> list[Figure]:
    """Serve, log, then serve with a cycle beside and without one by turns."""
    data = folder / "data"
    write_first_version(data, write_declaration(folder))
    rng = np.random.default_rng(0)
    with _service(data) as url:
        with Client(url, timeout_seconds=120.0) as client:
            client.change(POLICY, "promote", {"version": 1, "first": True, "why": "to measure"})
        poles = Poles(url, None, num_poles=32, pause_seconds=0.0, seed=0)
        try:
            poles.play(turns.log_steps, HEALTHY)
        finally:
            poles.stop()
        time.sleep(_SEAL_SECONDS)
        command = [
            *(sys.executable, "-m", "cli", "retrain", "--once", "--dry-run", "--policy", POLICY),
            *("--data", str(data), "--server", url, "--least-new-steps", "0", *CYCLES.flags),
        ]
        with _Cycles(command, folder / "retrain.log") as cycles:
            pairs = [_pair(url, cycles, turns.seconds, rng) for _ in range(turns.pairs)]
    return beside_figures(pairs, rng)


def beside_figures(pairs: Sequence[Pair], rng: np.random.Generator) -> list[Figure]:
    """By how much the 99th percentile moves, and between what it may truly lie."""
    chosen = rng.integers(len(pairs), size=(_RESAMPLES, len(pairs)))
    rises = [_rise([pairs[place] for place in places]) for places in chosen]
    unanswered = sum(int(np.isnan(each).sum()) for pair in pairs for each in pair[:2])
    return [
        Figure.at_most(
            "rise of the live p99 while a cycle trains", _rise(pairs), "share", LARGEST_RISE
        ),
        Figure("the same, 5th percentile", float(np.percentile(rises, 5)), "share"),
        Figure("the same, 95th percentile", float(np.percentile(rises, 95)), "share"),
        Figure("live p99 alone", _p99(pair.alone for pair in pairs), "ms"),
        Figure("live p99 with a cycle", _p99(pair.beside for pair in pairs), "ms"),
        Figure.at_most("requests without an answer", unanswered, "requests", 0),
        Figure(
            "what the cycle got",
            float(np.mean([pair.cycle_share for pair in pairs])),
            "of one core",
        ),
    ]


class _Cycles:
    """Owns a process of `dqn retrain` that is halted, gone on with, and begun again at its end."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._command, self._log = command, log

    def __enter__(self) -> "_Cycles":
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def go_on(self) -> None:
        """Let it train; a new one has read its log by then."""
        self._process.send_signal(signal.SIGCONT)
        if self._process.poll() is not None:
            if self._process.returncode != 0:
                raise RuntimeError(self._log.read_text("utf-8")[-1500:])
            self._start()

    def halt(self) -> None:
        """Let it stand where it is."""
        self._process.send_signal(signal.SIGSTOP)

    def cpu_seconds(self) -> float:
        """Of the process that runs."""
        return cpu_seconds(self._process.pid)

    def _start(self) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                env=os.environ | ONE_THREAD,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until = time.monotonic() + _PATIENCE_SECONDS
        while ": learn" not in self._log.read_text("utf-8") and self._process.poll() is None:
            if time.monotonic() > until:
                raise RuntimeError(f"no cycle learns: {self._log.read_text('utf-8')[-1500:]}")
            time.sleep(_LOOK_SECONDS)


def _pair(url: str, cycles: _Cycles, seconds: float, rng: np.random.Generator) -> Pair:
    cycles.halt()
    alone = _turn(url, seconds, rng)
    cycles.go_on()
    before, began = cycles.cpu_seconds(), time.monotonic()
    beside = _turn(url, seconds, rng)
    share = (cycles.cpu_seconds() - before) / (time.monotonic() - began)
    return Pair(alone, beside, max(0.0, share))


def _turn(url: str, seconds: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    observations = rng.normal(scale=0.05, size=(256, 1, 4))
    requests = [
        Request(
            "/v1/actions",
            msgspec.json.encode({"policy": POLICY, "observations": each.tolist()}),
            {"Content-Type": "application/json"},
        )
        for each in observations
    ]
    return asyncio.run(OpenLoop(url, requests, _RATE, seconds, rng, _CONNECTIONS).run()).latency


def _rise(pairs: Sequence[Pair]) -> float:
    return _p99(pair.beside for pair in pairs) / _p99(pair.alone for pair in pairs) - 1.0


def _p99(turns: Iterator[npt.NDArray[np.float64]]) -> float:
    return float(np.nanpercentile(np.concatenate(list(turns)), 99) * 1000)


@contextmanager
def _service(data: Path) -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    variables = {
        "DQN_SERVE_DATA": str(data),
        "DQN_SERVE_PORT": str(port),
        "DQN_SERVE_DISK_FREE_SHARE": "0",
        "DQN_RECORD_SEAL_SECONDS": "1",
        "DQN_RECORD_METRICS_PORT": "0",
    }
    command = [sys.executable, "-m", "service"]
    with server_process(command, lambda: is_ready(url), _START_SECONDS, variables):
        yield url
