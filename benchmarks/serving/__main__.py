"""`python -m benchmarks.serving`: one worker with everything on, beside a bare protocol."""

import argparse
import dataclasses
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.report import Figure, print_figures, write_result
from benchmarks.serving.load import Load, run_wrk
from benchmarks.serving.policies import MLP_OBSERVATION, write_mlp
from contract.manifest import ACTIONS, OBSERVATIONS, Q_VALUES
from dqn_client import Client, ClientError, new_episode_id
from service.inference.policy import open_session
from service.keys import add_key

CONNECTIONS = (1, 16, 64)
_PACKAGES = ("uvicorn", "uvloop", "httptools", "onnxruntime", "msgspec", "numpy", "fastapi")


def main() -> int:
    """Measure, print, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a second each; writes no file")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each load")
    parser.add_argument("--rounds", type=int, default=3, help="loads of each kind; medians count")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.rounds = 1.0, 1
    figures = _measure(options.seconds, options.rounds)
    print_figures("serving: mlp 8-128-128 dueling, one observation a JSON request", figures)
    if not options.quick:
        command = ["python", "-m", "benchmarks.serving", *sys.argv[1:]]
        write_result("serving", command, _PACKAGES, figures)
    return 0


def _measure(seconds: float, rounds: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        model = write_mlp(data / "policies")
        figures = [_model_alone(model)]
        key = add_key(data / "keys", "benchmark", ["act", "report", "read"])
        body = msgspec.json.encode(
            {
                "policy": "mlp",
                "observations": [MLP_OBSERVATION],
                "episode_ids": [new_episode_id()],
                "steps": [17],
            }
        )
        with _service(data, key) as (url, pid), _bare() as (bare_url, bare_pid):
            for connections in CONNECTIONS:
                ours, bare = [], []
                # Turn by turn, so that what else the machine does falls on both.
                for _ in range(rounds):
                    ours.append(run_wrk(f"{url}/v1/actions", body, connections, seconds, pid, key))
                    bare.append(run_wrk(bare_url, body, connections, seconds, bare_pid, None))
                figures += _compare(connections, ours, bare)
    return figures


def _compare(connections: int, ours: list[Load], bare: list[Load]) -> list[Figure]:
    where = f"{connections} connection{'s' if connections > 1 else ''}"
    rate, bare_rate = (_median(loads, "requests_per_second") for loads in (ours, bare))
    p50, p99 = (_median(ours, f"p{part}_seconds") * 1000 for part in (50, 99))
    cpu, bare_cpu = (
        _median(loads, "server_cpu_seconds_per_request") * 1e6 for loads in (ours, bare)
    )
    rate_figure = Figure(f"{where}: requests/s", rate, "1/s")
    p50_figure = Figure(f"{where}: p50", p50, "ms")
    p99_figure = Figure(f"{where}: p99", p99, "ms")
    if connections == 1:
        p50_figure = Figure.at_most(p50_figure.figure, p50, "ms", 0.4)
    if connections == 16:
        rate_figure = Figure.at_least(rate_figure.figure, rate, "1/s", 10_000)
        p99_figure = Figure.at_most(p99_figure.figure, p99, "ms", 5.0)
    return [
        _beside(rate_figure, f"bare protocol {bare_rate:,.0f}", rate / bare_rate),
        p50_figure,
        p99_figure,
        _beside(
            Figure(f"{where}: server CPU a request", cpu, "us"),
            f"bare protocol {bare_cpu:.1f}",
            bare_cpu / cpu,
        ),
    ]


def _beside(figure: Figure, rival: str, ratio: float) -> Figure:
    return dataclasses.replace(figure, rival=rival, ratio=ratio)


def _median(loads: list[Load], name: str) -> float:
    return float(statistics.median(getattr(load, name) for load in loads))


def _model_alone(model: bytes) -> Figure:
    """One raw call of ONNX Runtime for one observation."""
    session = open_session(model)
    feeds = {OBSERVATIONS: np.array([MLP_OBSERVATION], dtype=np.float32)}
    took = []
    for _ in range(5_000):
        began_at = time.perf_counter()
        session.run([ACTIONS, Q_VALUES], feeds)
        took.append(time.perf_counter() - began_at)
    return Figure("ONNX Runtime alone: one observation", statistics.median(took) * 1e6, "us")


@contextmanager
def _service(data: Path, key: str) -> Iterator[tuple[str, int]]:
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    arguments = ("--data", str(data), "--port", str(port), "--keys-file", str(data / "keys"))
    with _process("service", *arguments) as pid:

        def serves_model() -> bool:
            with Client(url, key) as client:
                return bool(client.get("/v1/policies/mlp")["source"] == "model")

        _wait_for(serves_model)
        yield url, pid


@contextmanager
def _bare() -> Iterator[tuple[str, int]]:
    port = _free_port()
    with _process("benchmarks.serving.bare", str(port)) as pid:

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        _wait_for(listens)
        yield f"http://127.0.0.1:{port}/", pid


@contextmanager
def _process(module: str, *arguments: str) -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-m", module, *arguments])
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _wait_for(is_so: Callable[[], bool], seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if is_so():
                return
        except ClientError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"not there after {seconds:.0f} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
