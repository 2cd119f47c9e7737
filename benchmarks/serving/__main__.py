"""`python -m benchmarks.serving`: our service beside its rivals under the same load.

One worker with everything on (keys, metrics, log, deadline), the same ONNX files, the same
observations, one machine, one run. Needs wrk; the rivals are installed on first use.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.report import Figure, print_figures, write_result
from benchmarks.serving.closed_loop import Measured, Missing, Plan, figures_of, measure
from benchmarks.serving.contenders import BARE, OURS, PROBE, Site
from benchmarks.serving.load import LoadError
from benchmarks.serving.model_alone import model_alone
from benchmarks.serving.plot import draw
from benchmarks.serving.policies import write_cnn, write_mlp
from benchmarks.serving.processes import StartError
from benchmarks.serving.profiling import profile
from benchmarks.serving.rivals.environments import InstallError, install, is_installed
from benchmarks.serving.rivals.table import RIVALS
from benchmarks.serving.scenarios import SCENARIOS, run_scenario
from benchmarks.serving.workloads import WORKLOADS, Workload
from dqn_client import ClientError

_PACKAGES = ("uvicorn", "uvloop", "httptools", "onnxruntime", "msgspec", "numpy", "fastapi")
_NAMES = (OURS, PROBE, BARE, *(rival.name for rival in RIVALS))
_QUICK_LOADS = ("mlp, 16 connections", "cnn, 8 connections")


def main() -> int:
    """Measure, print, and write the result file where nothing was left out."""
    options = _parse()
    began_at = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        site = Site(
            data, {"mlp": write_mlp(data / "policies"), "cnn": write_cnn(data / "policies")}
        )
        if options.profile:
            print(profile(site, "mlp", 64, options.seconds))
            print(profile(site, "cnn", 8, options.seconds))
            return 0
        contenders, missing = _contenders(options)
        workloads = [each for each in WORKLOADS if _is_wanted(each.name, options.loads)]
        plan = Plan(options.seconds, options.rounds, contenders)
        measured, failed = measure(site, workloads, plan, _tell)
        missing += failed
        figures = model_alone(site.models) + figures_of(measured)
        for name in SCENARIOS:
            if OURS not in contenders or not _is_wanted(name, options.loads):
                continue
            _tell(name)
            try:
                figures += run_scenario(name, site, options.scenario_seconds, options.swaps)
            except (LoadError, StartError, ClientError) as error:
                missing.append(Missing(OURS, name, str(error)))
    _print_loads(workloads, measured)
    print_figures("serving", figures)
    _print_missing(missing)
    _tell(f"took {(time.monotonic() - began_at) / 60:.1f} minutes")
    if options.is_whole:
        _write(measured, figures, missing)
    else:
        _tell("a part, so no file is written")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="under a minute: two loads of a second, and of the rivals mosec if it is installed",
    )
    parser.add_argument("--only", action="append", choices=_NAMES, help="may be given again")
    parser.add_argument(
        "--loads",
        action="append",
        metavar="PART",
        help=f"loads and scenarios whose name has this part: "
        f"{'; '.join([*(each.name for each in WORKLOADS), *SCENARIOS])}",
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="of each closed-loop load")
    parser.add_argument("--rounds", type=int, default=3, help="of each load; medians count")
    parser.add_argument("--scenario-seconds", type=float, default=20.0, help="of each scenario")
    parser.add_argument(
        "--write", action="store_true", help="keep the result of a part: its command says of which"
    )
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--profile", action="store_true", help="where our time goes, and no more")
    options = parser.parse_args()
    options.is_whole = options.write or not (options.quick or options.only or options.loads)
    if options.quick:
        options.seconds, options.rounds, options.scenario_seconds, options.swaps = 1.0, 1, 1.0, 1
        options.loads = options.loads or list(_QUICK_LOADS)
    return options


def _contenders(options: argparse.Namespace) -> tuple[frozenset[str], list[Missing]]:
    """Who takes part; rivals are installed here, and who cannot be is told."""
    wanted = set(options.only or _NAMES)
    missing = []
    for rival in RIVALS:
        if rival.name not in wanted:
            continue
        if options.quick and not (rival.name == "mosec" and is_installed(rival)):
            wanted.remove(rival.name)
            continue
        try:
            if not is_installed(rival):
                _tell(f"installing {rival.title}")
            install(rival)
        except InstallError as error:
            wanted.remove(rival.name)
            missing.append(Missing(rival.name, "everything", str(error)))
    return frozenset(wanted), missing


def _is_wanted(name: str, parts: Sequence[str] | None) -> bool:
    return parts is None or any(part in name for part in parts)


def _print_loads(workloads: Sequence[Workload], measured: Sequence[Measured]) -> None:
    """One table a load: everybody's rate, percentiles and CPU, and ours over theirs."""
    for workload in workloads:
        rows = [each for each in measured if each.workload == workload]
        rate = next(
            (each.load.requests_per_second for each in rows if each.contender == OURS), None
        )
        table = Table(
            *(
                "server",
                "requests/s",
                "p50 ms",
                "p99 ms",
                "CPU us/request",
                "failures",
                "ours over it",
            ),
            title=workload.name,
        )
        for each in rows:
            load = each.load
            table.add_row(
                each.contender,
                f"{load.requests_per_second:,.0f}",
                f"{load.p50_seconds * 1000:.2f}",
                f"{load.p99_seconds * 1000:.2f}",
                f"{load.cpu_seconds_per_request * 1e6:,.0f}",
                str(load.failures),
                "" if rate is None else f"{rate / load.requests_per_second:.2f}",
            )
        Console().print(table)


def _print_missing(missing: Sequence[Missing]) -> None:
    for each in missing:
        Console().print(f"[red]not measured[/red]: {each.contender}, {each.what}: {each.why}")


def _write(
    measured: Sequence[Measured], figures: Sequence[Figure], missing: Sequence[Missing]
) -> None:
    told = [
        Figure(
            f"{each.what}: not measured",
            0.0,
            "",
            rival=f"{each.contender}: {each.why.splitlines()[-1]}",
            met=False,
        )
        for each in missing
    ]
    command = ["python", "-m", "benchmarks.serving", *sys.argv[1:]]
    _tell(f"written: {write_result('serving', command, _PACKAGES, [*figures, *told])}")
    _tell(f"written: {draw(measured)}")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
