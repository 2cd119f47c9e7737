"""Open-loop scenarios: half of capacity, twenty hot swaps under it, and a flood."""

import asyncio
import itertools
import statistics
import time

import numpy as np
import uvloop

from benchmarks.report import Figure
from benchmarks.serving.closed_loop import PATIENT_DEADLINE_MS
from benchmarks.serving.contenders import Contender, Site, bare_protocol, our_service
from benchmarks.serving.graphs import slow_graph
from benchmarks.serving.load import run_wrk
from benchmarks.serving.open_loop import OpenLoad, OpenLoop
from benchmarks.serving.policies import observations_of, write_slow
from benchmarks.serving.rivals.wire import Request
from contract.manifest import ACTIONS, OBSERVATIONS, Q_VALUES
from dqn_client import Client
from service.inference.policy import open_session

SCENARIOS = ("open loop, mlp", "open loop, cnn", "hot swaps", "flood")
DEADLINE_MS = 10.0
_CAPACITY_CONNECTIONS = {"mlp": 64, "cnn": 32, "slow": 8}
_REQUESTS = 64
"""Different requests that a loop goes through in turn."""
_SWAP_PAUSE_SECONDS = 1.0
_SLOW_ROWS_PER_SECOND = 1000.0
_SLOW_BATCH = 8
_FLOOD = 4.0


def run_scenario(name: str, site: Site, seconds: float, swaps: int) -> list[Figure]:
    """Run one of `SCENARIOS`, for so many seconds where it lasts as long as it is told."""
    if name == "flood":
        return flood(site, seconds)
    if name == "hot swaps":
        return hot_swaps(site, seconds, swaps)
    return steady(site, name.rpartition(" ")[2], seconds)


def steady(site: Site, model: str, seconds: float) -> list[Figure]:
    """Half of what the closed loop gets out of one worker, arriving by chance."""
    rate = _capacity(site, model, seconds) / 2
    with our_service(site.data, model) as ours:
        load = uvloop.run(_loop(ours, model, rate, seconds).run())
    with bare_protocol() as bare:
        bare_load = uvloop.run(_loop(bare, model, rate, seconds).run())
    where = f"open loop, {model}, half of capacity"
    return [
        Figure(f"{where}: requests/s", len(load.due) / load.seconds, "1/s"),
        Figure(f"{where}: p50", load.percentile_ms(50), "ms"),
        Figure.at_most(f"{where}: p99", load.percentile_ms(99), "ms", 10),
        Figure.at_most(f"{where}: p99.9", load.percentile_ms(99.9), "ms", 20),
        *_shares(where, load),
        Figure(
            f"{where}: generator's own p99",
            bare_load.percentile_ms(99),
            "ms",
            rival="the same load on the bare protocol",
        ),
        *_generator(where, load),
    ]


def hot_swaps(site: Site, seconds: float, swaps: int) -> list[Figure]:
    """Two versions promoted in turn under half of capacity."""
    rate = _capacity(site, "mlp", seconds) / 2
    with our_service(site.data, "mlp") as ours:
        load, windows = uvloop.run(_swap_under_load(ours, rate, swaps))
    in_swap = np.zeros(len(load.due), dtype=np.bool_)
    for began_at, ended_at in windows:
        in_swap |= (load.due >= began_at) & (load.due <= ended_at)
    where = f"{len(windows)} hot swaps, mlp, half of capacity"
    during, otherwise = load.percentile_ms(99, in_swap), load.percentile_ms(99, ~in_swap)
    took = statistics.median(ended_at - began_at for began_at, ended_at in windows)
    return [
        Figure.at_most(f"{where}: failed", int((load.status != 200).sum()), "1", 0),
        Figure(f"{where}: a swap takes", took, "s"),
        Figure(f"{where}: p99 outside of swaps", otherwise, "ms"),
        Figure(f"{where}: p99 during swaps", during, "ms"),
        Figure.at_most(f"{where}: p99 during over outside", during / otherwise, "1", 1.5),
        *_shares(where, load)[1:],
        *_generator(where, load),
    ]


def flood(site: Site, seconds: float) -> list[Figure]:
    """Four times what a really slow model can do."""
    model = calibrated_model(np.random.default_rng(0))
    write_slow(site.data / "policies", model)
    alone = rows_per_second(model)
    capacity = _capacity(site, "slow", seconds)
    with our_service(site.data, "slow", deadline_ms=DEADLINE_MS) as ours:
        load = uvloop.run(_loop(ours, "slow", _FLOOD * alone, seconds).run())
    where = f"flood of {_FLOOD:g}x capacity"
    is_answer = load.status == 200
    tells = load.from_model | load.from_heuristic
    by_model = float(load.from_model.sum()) / load.seconds
    return [
        Figure(f"{where}: the slow model alone", alone, "rows/s"),
        Figure(f"{where}: capacity, closed loop without deadlines", capacity, "rows/s"),
        Figure(f"{where}: requests/s", len(load.due) / load.seconds, "1/s"),
        Figure.at_most(
            f"{where}: p99 of answers", load.percentile_ms(99, is_answer), "ms", DEADLINE_MS + 2
        ),
        Figure.at_least(f"{where}: model-answered over capacity", by_model / capacity, "1", 0.9),
        Figure(f"{where}: model-answered over the model alone", by_model / alone, "1"),
        Figure.at_most(f"{where}: 5xx", int((load.status >= 500).sum()), "1", 0),
        Figure.at_most(f"{where}: unanswered", int((load.status == 0).sum()), "1", 0),
        Figure(f"{where}: 429", int((load.status == 429).sum()), "1"),
        Figure.at_most(
            f"{where}: answers that do not say who chose", int((is_answer & ~tells).sum()), "1", 0
        ),
        *_generator(where, load),
    ]


def calibrated_model(rng: np.random.Generator) -> bytes:
    """A graph that takes a millisecond a row on this machine, as it is now."""
    layers = 40
    for _ in range(3):
        model = slow_graph(rng, layers)
        layers = max(1, round(layers * rows_per_second(model) / _SLOW_ROWS_PER_SECOND))
    return slow_graph(rng, layers)


def rows_per_second(model: bytes) -> float:
    """What ONNX Runtime alone makes of a model, in batches."""
    session = open_session(model)
    feeds = {OBSERVATIONS: observations_of("slow", _SLOW_BATCH)}
    took = []
    for _ in range(40):
        began_at = time.perf_counter()
        session.run([ACTIONS, Q_VALUES], feeds)
        took.append(time.perf_counter() - began_at)
    return _SLOW_BATCH / statistics.median(took)


def _capacity(site: Site, model: str, seconds: float) -> float:
    """Requests a second of the closed loop, all of them answered by the model."""
    with our_service(site.data, model, deadline_ms=PATIENT_DEADLINE_MS) as ours:
        request = ours.encode(observations_of(model, 1))
        connections = _CAPACITY_CONNECTIONS[model]
        run_wrk(ours.url, request, connections, 1.0, ours.pid)
        return run_wrk(ours.url, request, connections, seconds, ours.pid).requests_per_second


def _loop(contender: Contender, model: str, rate: float, seconds: float) -> OpenLoop:
    requests = _different_requests(contender, model)
    return OpenLoop(contender.url, requests, rate, seconds, np.random.default_rng(0))


def _different_requests(contender: Contender, model: str) -> list[Request]:
    observations = observations_of(model, _REQUESTS)
    return [contender.encode(observations[row : row + 1]) for row in range(_REQUESTS)]


async def _swap_under_load(
    ours: Contender, rate: float, swaps: int
) -> tuple[OpenLoad, list[tuple[float, float]]]:
    """The load, and from when to when each promotion took."""
    loop = _loop(ours, "mlp", rate, seconds=60.0 + 10.0 * swaps)
    windows: list[tuple[float, float]] = []

    async def swap() -> None:
        try:
            with Client(ours.url, ours.key, timeout_seconds=60.0) as client:
                for version in itertools.islice(itertools.cycle((2, 1)), swaps):
                    await asyncio.sleep(_SWAP_PAUSE_SECONDS)
                    began_at = time.perf_counter()
                    body = {"version": version, "why": "to measure a swap under load"}
                    await asyncio.to_thread(client.change, "mlp", "promote", body)
                    windows.append((began_at, time.perf_counter()))
                await asyncio.sleep(_SWAP_PAUSE_SECONDS)
        finally:
            loop.stop()

    load, _ = await asyncio.gather(loop.run(), swap())
    return load, windows


def _shares(where: str, load: OpenLoad) -> list[Figure]:
    return [
        Figure.at_most(f"{where}: not 200", int((load.status != 200).sum()), "1", 0),
        Figure(f"{where}: share that the model answered", float(load.from_model.mean()), "share"),
    ]


def _generator(where: str, load: OpenLoad) -> list[Figure]:
    """Whether the generator kept up: else the figures above are its own."""
    late, queued = (
        float(np.nanpercentile(seconds, 99) * 1000) for seconds in (load.lateness, load.queueing)
    )
    return [
        Figure(f"{where}: generator late by, p99", late, "ms"),
        Figure(f"{where}: waiting for a free connection, p99", queued, "ms"),
        Figure(f"{where}: generator's share of a core", load.generator_cpu_share, "share"),
    ]
