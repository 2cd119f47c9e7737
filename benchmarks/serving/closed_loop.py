"""The closed loop: contenders that are up together take turns at each load; medians count."""

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.report import Figure
from benchmarks.serving.contenders import (
    BARE,
    OURS,
    PROBE,
    Contender,
    Site,
    bare_probe,
    bare_protocol,
    our_service,
    rival_server,
)
from benchmarks.serving.load import Load, LoadError, run_wrk
from benchmarks.serving.policies import observations_of
from benchmarks.serving.processes import StartError
from benchmarks.serving.rivals.table import RIVALS
from benchmarks.serving.scrape import decisions_by_source
from benchmarks.serving.workloads import Workload

PATIENT_DEADLINE_MS = 1000.0
"""No rival has a deadline: under load, ours must let the model answer as they do."""
_WARM_UP_CONNECTIONS = 8
_CLOSEST = "mosec"


@dataclass(frozen=True)
class Measured:
    """The median of one contender's rounds at one load."""

    contender: str
    workload: Workload
    load: Load
    model_share: float | None = None
    """Share of rows that the model answered; None where the server does not tell."""


@dataclass(frozen=True)
class Missing:
    """A contender that could not be measured at some load, and why."""

    contender: str
    what: str
    why: str


@dataclass(frozen=True)
class Plan:
    """How long, how often, and who."""

    seconds: float
    rounds: int
    contenders: frozenset[str]


def measure(
    site: Site, workloads: Sequence[Workload], plan: Plan, tell: Callable[[str], None]
) -> tuple[list[Measured], list[Missing]]:
    """Measure every contender at every load; who fails is told, not left out."""
    measured: list[Measured] = []
    missing: list[Missing] = []
    for model, workers in sorted({(each.model, each.workers) for each in workloads}, reverse=True):
        loads = [each for each in workloads if (each.model, each.workers) == (model, workers)]
        for group in _groups(plan.contenders, model, workers):
            with ExitStack() as stack:
                up = []
                for name in group:
                    tell(f"{model}, {workers} worker{'s' if workers > 1 else ''}: {name}")
                    try:
                        up.append(stack.enter_context(_start(name, site, model, workers)))
                    except StartError as error:
                        missing.append(Missing(name, model, str(error)))
                for workload in loads:
                    found, failed = _take_turns(up, workload, plan)
                    measured += found
                    missing += failed
    return measured, missing


def _groups(contenders: frozenset[str], model: str, workers: int) -> Iterator[list[str]]:
    """Who is up together: we, the limits and the closest rival; every other one alone."""
    if workers > 1:
        yield [name for name in (OURS, _CLOSEST) if name in contenders]
        return
    limits = (PROBE, BARE) if model == "mlp" else ()
    together = [name for name in (OURS, _CLOSEST, *limits) if name in contenders]
    yield together
    for rival in RIVALS:
        if rival.name in contenders and rival.name not in together:
            yield [rival.name]


@contextmanager
def _start(name: str, site: Site, model: str, workers: int) -> Iterator[Contender]:
    if name == OURS:
        with our_service(
            site.data, model, workers=workers, deadline_ms=PATIENT_DEADLINE_MS
        ) as ours:
            yield ours
    elif name == BARE:
        with bare_protocol() as bare:
            yield bare
    elif name == PROBE:
        with bare_probe(site) as probe:
            yield probe
    else:
        rival = next(rival for rival in RIVALS if rival.name == name)
        with rival_server(rival, site, model, workers) as contender:
            yield contender


def _take_turns(
    contenders: Iterable[Contender], workload: Workload, plan: Plan
) -> tuple[list[Measured], list[Missing]]:
    """Turn by turn, so that what else the machine does falls on all alike."""
    observations = observations_of(workload.model, workload.rows)
    asked = [(each, each.encode(observations)) for each in contenders]
    rounds: dict[str, list[Load]] = {each.name: [] for each, _ in asked}
    missing: dict[str, Missing] = {}

    def take_turn(connections: int, seconds: float) -> None:
        for each, request in asked:
            if each.name in missing:
                continue
            try:
                load = run_wrk(each.url, request, connections, seconds, each.pid)
            except LoadError as error:
                missing[each.name] = Missing(each.name, workload.name, str(error))
            else:
                rounds[each.name].append(load)

    take_turn(_WARM_UP_CONNECTIONS, 1.0)
    before = {each.name: decisions_by_source(each) for each, _ in asked}
    for _ in range(plan.rounds):
        take_turn(workload.connections, plan.seconds)
    measured = [
        Measured(
            each.name,
            workload,
            _median(rounds[each.name][1:]),
            _model_share(before[each.name], decisions_by_source(each)),
        )
        for each, _ in asked
        if each.name not in missing
    ]
    return measured, list(missing.values())


def _model_share(before: dict[str, float], after: dict[str, float]) -> float | None:
    if not after:
        return None
    grown = {source: count - before.get(source, 0.0) for source, count in after.items()}
    return grown.get("model", 0.0) / sum(grown.values())


def _median(loads: Sequence[Load]) -> Load:
    def median(name: str) -> float:
        return float(statistics.median(getattr(load, name) for load in loads))

    return Load(
        requests_per_second=median("requests_per_second"),
        p50_seconds=median("p50_seconds"),
        p99_seconds=median("p99_seconds"),
        cpu_seconds_per_request=median("cpu_seconds_per_request"),
        failures=sum(load.failures for load in loads),
    )


def figures_of(measured: Sequence[Measured]) -> list[Figure]:
    """Our rate beside each rival's, then our own percentiles, CPU and failures."""
    figures: list[Figure] = []
    for ours in (each for each in measured if each.contender == OURS):
        rivals = [
            each for each in measured if each.workload == ours.workload and each.contender != OURS
        ]
        figures += [_beside(ours, rival) for rival in rivals]
        figures += _alone(ours)
    return figures


def _beside(ours: Measured, rival: Measured) -> Figure:
    rate, theirs = ours.load.requests_per_second, rival.load.requests_per_second
    ratio = rate / theirs
    goal = ours.workload.ratios.get(rival.contender)
    return Figure(
        f"{ours.workload.name}: requests/s",
        rate,
        "1/s",
        goal=None if goal is None else f"at least {goal:g} x {rival.contender}",
        rival=f"{rival.contender} {in_words(rival)}",
        ratio=ratio,
        met=None if goal is None else ratio >= goal,
    )


def _alone(ours: Measured) -> list[Figure]:
    where, load = ours.workload.name, ours.load
    p50 = Figure(f"{where}: p50", load.p50_seconds * 1000, "ms")
    p99 = Figure(f"{where}: p99", load.p99_seconds * 1000, "ms")
    if ours.workload.p50_ms is not None:
        p50 = Figure.at_most(p50.figure, p50.value, "ms", ours.workload.p50_ms)
    if ours.workload.p99_ms is not None:
        p99 = Figure.at_most(p99.figure, p99.value, "ms", ours.workload.p99_ms)
    figures = [
        Figure(f"{where}: requests/s", load.requests_per_second, "1/s"),
        p50,
        p99,
        Figure(f"{where}: server CPU a request", load.cpu_seconds_per_request * 1e6, "us"),
        Figure.at_most(f"{where}: failures", load.failures, "1", 0),
    ]
    if ours.model_share is not None:
        figures.append(
            Figure.at_least(f"{where}: rows that the model answered", ours.model_share, "share", 1)
        )
    return figures


def in_words(measured: Measured) -> str:
    """A rival's figures on one line."""
    load = measured.load
    failures = f", {load.failures} failures" if load.failures else ""
    return (
        f"{load.requests_per_second:,.0f} 1/s, p50 {load.p50_seconds * 1000:.2f} ms, "
        f"p99 {load.p99_seconds * 1000:.2f} ms, {load.cpu_seconds_per_request * 1e6:,.0f} us CPU"
        f"{failures}"
    )
