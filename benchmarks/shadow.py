"""`python -m benchmarks.shadow [--quick] [--write]`: what a shadow costs those who are answered.

One server, loaded in pairs of turns: with a shadow that is shown all rows, and without one. Who
goes first changes from pair to pair. The load is moderate: a busy server shows a shadow less.
Ten pairs of twice eight seconds take three and a half minutes; each pair is told of as it ends.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import httpx
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.cost.paced import run_paced
from benchmarks.cost.pairs import NUM_PAIRS, upper_bound
from benchmarks.report import Figure, print_figures, write_result
from benchmarks.serving.load import Load
from benchmarks.serving.policies import observations_of, write_mlp
from benchmarks.serving.processes import free_port, server_process
from benchmarks.serving.rivals.wire import Request

_POLICY: Final = "mlp"
_MOST_MS: Final = 0.3
"""That a p99 may move by: a tenth of what it is, and below what a scheduler moves it by."""
_TIME_SHARE: Final = 0.05
_SETTLE_SECONDS: Final = 1.0
_START_SECONDS: Final = 120.0


class Server(NamedTuple):
    """A service with one worker."""

    client: httpx.Client
    pid: int

    @property
    def url(self) -> str:
        """Where it listens."""
        return str(self.client.base_url)

    def change(self, verb: str, **fields: object) -> None:
        """Make an operator's change."""
        body = {"why": "a benchmark"} | fields
        answer = self.client.post(f"/v1/policies/{_POLICY}/{verb}", json=body)
        answer.raise_for_status()

    def metric(self, name: str) -> float:
        """Value of a series of the policy."""
        text = self.client.get("/metrics").raise_for_status().text
        return next(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and sample.labels.get("policy") == _POLICY
        )


class Shown(NamedTuple):
    """One turn with the shadow."""

    load: Load
    rows: float
    """That it was asked of."""
    time_share: float
    """That its model ran for."""


def main() -> int:
    """Measure; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shadow", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three pairs of four seconds")
    parser.add_argument("--write", action="store_true", help="keep the result in the repository")
    parser.add_argument("--pairs", type=int, choices=NUM_PAIRS, default=10)
    parser.add_argument("--seconds", type=float, default=8.0, help="of one load")
    options = parser.parse_args()
    if options.quick:
        options.pairs, options.seconds = 3, 4.0
    figures = _figures(_measure(options.pairs, options.seconds))
    print_figures("shadow", figures)
    if options.write and not options.quick:
        command = ["python", "-m", "benchmarks.shadow", *sys.argv[1:]]
        write_result("shadow", command, ("onnxruntime", "uvicorn"), figures)
    return 0 if options.quick or all(each.met is not False for each in figures) else 1


def _measure(num_pairs: int, seconds: float) -> list[tuple[Shown, Load]]:
    body = {"policy": _POLICY, "observations": observations_of(_POLICY, 1).tolist()}
    request = Request(
        "/v1/actions", msgspec.json.encode(body), {"Content-Type": "application/json"}
    )
    pairs = []
    with _server() as server:
        run_paced(server.url, request, min(seconds, 3.0), server.pid)
        for number in range(num_pairs):
            without = None
            if number % 2:
                without = run_paced(server.url, request, seconds, server.pid)
            shown = _shown(server, request, seconds)
            without = without or run_paced(server.url, request, seconds, server.pid)
            pairs.append((shown, without))
            print(f"pair {number + 1} of {num_pairs}", flush=True)
    return pairs


def _shown(server: Server, request: Request, seconds: float) -> Shown:
    server.change("shadow", version=2, share=1.0)
    time.sleep(_SETTLE_SECONDS)
    names = ("dqn_shadow_rows_total", "dqn_shadow_seconds_sum")
    before = [server.metric(name) for name in names]
    began_at = time.monotonic()
    load = run_paced(server.url, request, seconds, server.pid)
    took = time.monotonic() - began_at
    rows, ran = (server.metric(name) - was for name, was in zip(names, before, strict=True))
    server.change("shadow", version=2, share=0.0)
    time.sleep(_SETTLE_SECONDS)
    return Shown(load, rows, ran / took)


@contextmanager
def _server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="shadow-") as folder:
        data, port = Path(folder), free_port()
        write_mlp(data / "policies")
        command = [sys.executable, "-m", "service", "--data", folder, "--port", str(port)]
        command += ["--log-level", "warning", "--no-record", "--deadline-ms", "1000"]
        url = f"http://127.0.0.1:{port}"

        def is_up() -> bool:
            try:
                answer = httpx.get(f"{url}/v1/policies/{_POLICY}", timeout=2.0)
            except httpx.TransportError:
                return False
            return answer.status_code == 200 and answer.json()["stable"] == 1

        with (
            server_process(command, is_up, _START_SECONDS) as pid,
            httpx.Client(base_url=url, timeout=120.0) as client,
        ):
            yield Server(client, pid)


def _figures(pairs: Sequence[tuple[Shown, Load]]) -> list[Figure]:
    added = upper_bound([1000 * (on.load.p99_seconds - off.p99_seconds) for on, off in pairs])
    ratio = statistics.median(on.load.p99_seconds / off.p99_seconds for on, off in pairs)
    cpu = upper_bound(
        [on.load.cpu_seconds_per_request / off.cpu_seconds_per_request - 1 for on, off in pairs]
    )
    seen = min(on.rows for on, _ in pairs)
    failures = sum(on.load.failures + off.failures for on, off in pairs)
    where = f"{len(pairs)} pairs of loads with a shadow of all rows and without one"
    off = 1000 * statistics.median(each.p99_seconds for _, each in pairs)
    return [
        Figure(f"{where}: p99 without", off, "ms"),
        Figure(f"{where}: p99 with over without, median", ratio, "ratio"),
        Figure(f"{where}: p99 added, mean", added.mean, "ms"),
        Figure.at_most(
            f"{where}: p99 added, at most with 95 % confidence", added.upper, "ms", _MOST_MS
        ),
        Figure(
            f"{where}: CPU of a request added, at most with 95 % confidence", cpu.upper, "share"
        ),
        Figure.at_most(
            f"{where}: share of the time that the shadow ran, most",
            max(on.time_share for on, _ in pairs),
            "share",
            _TIME_SHARE,
        ),
        Figure(f"{where}: rows that the shadow saw in one load, least", seen, "rows"),
        Figure.at_most(f"{where}: requests that failed", failures, "requests", 0),
    ]


if __name__ == "__main__":
    sys.exit(main())
