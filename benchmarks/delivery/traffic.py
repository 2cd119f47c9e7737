"""A real server beside Redis: records and frames at a fixed pace, and what its answers cost."""

import asyncio
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.request import urlopen

import ale_py.vector_env
import msgspec
import numpy as np
import numpy.typing as npt
import redis

from benchmarks.delivery.backlog import started_store
from benchmarks.faults.ring import wait_until
from benchmarks.report import Figure
from benchmarks.serving.open_loop import OpenLoad, OpenLoop
from benchmarks.serving.policies import observations_of, write_mlp
from benchmarks.serving.processes import cpu_seconds, free_port, listens, server_process
from benchmarks.serving.rivals.wire import Request
from contract.declaration import ActionSpec, ObservationSpec, PolicyDeclaration, write_declaration
from contract.heuristics import ConstantHeuristic

_ACTIONS_A_SECOND: Final = 1000
_REPORTS_A_SECOND: Final = 50
_OUTCOMES_A_REPORT: Final = 100
_STEPS_A_SECOND: Final = 500
_EPISODES: Final = 200
"""So many that a step is answered before the next one of its episode is due."""
_STACK: Final = 4
_SIDE: Final = 84
_START_SECONDS: Final = 120.0
_JSON: Final = {"Content-Type": "application/json"}
_MSGPACK: Final = {"Content-Type": "application/msgpack"}
_BEHIND_SECONDS: Final = 5.0
_REACHED: Final = 0.98


class _Served(NamedTuple):
    """What a server did with its load, and what Redis had of it."""

    loads: list[OpenLoad]
    records: float
    """Spooled."""
    lost: float
    """Dropped, or refused."""
    behind_seconds: float
    """After the last answer, until Redis had everything on disk."""
    cpu_seconds: float
    redis_bytes: int
    """By which Redis's memory grew."""


def serve_beside(seconds: int) -> Iterator[Figure]:
    """5,000 records of 256 B a second, reported to a server that answers 1,000 requests/s."""
    rows = observations_of("mlp", 64)
    actions = [
        Request("/v1/actions", msgspec.json.encode({"observations": [row.tolist()]}), _JSON)
        for row in rows
    ]
    reports = [_report(number) for number in range(_REPORTS_A_SECOND * seconds)]
    with tempfile.TemporaryDirectory(prefix="delivery-") as name:
        data = Path(name)
        write_mlp(data / "policies")
        loads = ((actions, _ACTIONS_A_SECOND), (reports, _REPORTS_A_SECOND))
        served = _serve(data, loads, seconds)
    asked, reported = served.loads
    outcomes = _rate(reported) * _OUTCOMES_A_REPORT
    goal = _REPORTS_A_SECOND * _OUTCOMES_A_REPORT
    what = "beside requests"
    yield Figure.at_least(f"{what}: records of 256 B a second", outcomes, "records/s",
                          _REACHED * goal)  # fmt: skip
    yield Figure.at_least(
        f"{what}: requests answered", _rate(asked), "requests/s", _REACHED * _ACTIONS_A_SECOND
    )
    yield Figure(f"{what}: p99 of their latency", asked.percentile_ms(99), "ms")
    yield from _delivered(what, served)


def serve_frames(seconds: int) -> Iterator[Figure]:
    """500 steps a second whose frames are logged; no model, so that the log is what is measured."""
    frames = _play(_STEPS_A_SECOND * seconds // _EPISODES + _EPISODES)
    requests = [
        _step(number // _EPISODES, number % _EPISODES, frames)
        for number in range(_STEPS_A_SECOND * seconds)
    ]
    with tempfile.TemporaryDirectory(prefix="delivery-") as name:
        data = Path(name)
        folder = data / "policies" / "frames"
        folder.mkdir(parents=True)
        observation = ObservationSpec(
            shape=(_STACK, _SIDE, _SIDE), dtype="uint8", frame_stack=_STACK
        )
        write_declaration(
            folder,
            PolicyDeclaration(
                observation=observation,
                actions=ActionSpec(count=6),
                heuristic=ConstantHeuristic(),
            ),
        )
        served = _serve(data, ((requests, _STEPS_A_SECOND),), seconds)
    (load,) = served.loads
    what = "frames"
    yield Figure.at_least(
        f"{what}: decisions a second", _rate(load), "decisions/s", _REACHED * _STEPS_A_SECOND
    )
    # Of whole stacks it would be this and the frame's three predecessors.
    yield Figure(f"{what}: in Redis, of a decision", served.redis_bytes / len(load.due), "B")
    yield from _delivered(what, served)


def _delivered(what: str, served: _Served) -> Iterator[Figure]:
    num_requests = sum(len(load.due) for load in served.loads)
    yield Figure.at_most(
        f"{what}: Redis is behind by, at the end", served.behind_seconds, "s", _BEHIND_SECONDS
    )
    yield Figure.at_most(f"{what}: dropped or refused", served.lost, "records", 0)
    yield Figure(f"{what}: CPU of the server", 1e6 * served.cpu_seconds / num_requests,
                 "us/request")  # fmt: skip


def _serve(data: Path, loads: Sequence[tuple[Sequence[Request], int]], seconds: int) -> _Served:
    """Send each load at its own rate, side by side."""
    rng = np.random.default_rng(0)
    with started_store(data) as store, _server(data, store.port) as (pid, port):
        client = redis.Redis(port=store.port)
        before = _memory(client)
        cpu_before = cpu_seconds(pid)
        url = f"http://127.0.0.1:{port}"

        async def run() -> list[OpenLoad]:
            loops = [
                OpenLoop(url, requests, rate, seconds, rng, connections=64)
                for requests, rate in loads
            ]
            return await asyncio.gather(*(each.run() for each in loops))

        found = asyncio.run(run())
        ended = time.monotonic()
        wait_until(lambda: _is_shipped(port), "redis has it all")
        behind = time.monotonic() - ended
        cpu = cpu_seconds(pid) - cpu_before
        refused = sum(int((load.status != 200).sum()) for load in found)
        spooled = _metric(port, "dqn_records_total", 'stage="spooled"')
        dropped = _metric(port, "dqn_records_dropped_total", "")
        grown = _memory(client) - before
        client.close()
    return _Served(found, spooled, dropped + refused, behind, cpu, grown)


@contextmanager
def _server(data: Path, redis_port: int) -> Iterator[tuple[int, int]]:
    port = free_port()
    command = [
        sys.executable, "-m", "service", f"--data={data}", f"--port={port}",
        f"--redis-url=redis://127.0.0.1:{redis_port}", "--disk-free-share=0", "--no-record",
        "--deadline-ms=1000",
    ]  # fmt: skip
    with server_process(command, lambda: listens(port), _START_SECONDS) as pid:
        wait_until(lambda: _is_ready(port), "the server is ready")
        yield pid, port


def _is_ready(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz") as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _is_shipped(port: int) -> bool:
    spooled, shipped = (
        _metric(port, "dqn_records_total", f'stage="{stage}"') for stage in ("spooled", "shipped")
    )
    return shipped >= spooled


def _metric(port: int, name: str, label: str) -> float:
    """The sum of a family's series that have a label."""
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        told = answer.read().decode()
    lines = re.findall(rf"^{name}\{{(.*)\}} (\S+)$", told, re.MULTILINE)
    return sum(float(value) for labels, value in lines if label in labels)


def _memory(client: "redis.Redis") -> int:
    found: Any = client.info("memory")
    return int(found["used_memory_dataset"])


def _rate(load: OpenLoad) -> float:
    return float((load.status == 200).sum()) / load.seconds


def _report(number: int) -> Request:
    """Outcomes of 256 bytes each as they are logged: ids as long as they may be."""
    outcomes = [
        {
            "episode_id": f"{number:06d}-{row:03d}".ljust(128, "e"),
            "step": number,
            "outcome_id": f"{number:06d}-{row:03d}".ljust(91, "o"),
            "reward": 1.0,
        }
        for row in range(_OUTCOMES_A_REPORT)
    ]
    body = {"outcomes": [each | {"policy": "mlp"} for each in outcomes]}
    return Request("/v1/outcomes", msgspec.json.encode(body), _JSON)


def _step(step: int, episode: int, frames: npt.NDArray[np.uint8]) -> Request:
    body: dict[str, Any] = {
        "step": step,
        "observation": frames[step + episode].tolist(),
    }
    body |= {"reward": 0.0} if step else {}
    path = f"/v1/episodes/episode-{episode}/steps"
    return Request(path, msgspec.msgpack.encode(body), _MSGPACK)


def _play(number: int) -> npt.NDArray[np.uint8]:
    """Frames of Pong, played at random."""
    games = ale_py.vector_env.AtariVectorEnv("pong", num_envs=1, num_threads=1)
    rng = np.random.default_rng(0)
    stacks, _ = games.reset(seed=0)
    frames = [stacks[0, -1].copy()]
    while len(frames) < number:
        stacks, *_ = games.step(rng.integers(6, size=1))
        frames.append(stacks[0, -1].copy())
    games.close()
    return np.stack(frames)
