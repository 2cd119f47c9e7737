"""A server with a part that is taken out and put back, over a policy that drift is watched for."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import httpx
import msgspec
import numpy as np

from benchmarks.cost.without import PUT_BACK, TAKE_OUT
from benchmarks.serving.policies import observations_of, write_mlp
from benchmarks.serving.processes import free_port, process_tree, server_process
from benchmarks.serving.rivals.wire import Request
from contract.bundle import read_bundle, write_bundle
from contract.ledger import LEDGER_FILE, Entry, FileLedger, append_latest
from contract.manifest import FEATURES, OBSERVATIONS, Q_VALUES, Profile
from contract.profile import Played, sum_up
from dqn_client import new_episode_id
from service.inference.policy import open_session

POLICY: Final = "mlp"
_ARMED: Final = 3
_START_SECONDS: Final = 120.0
_EPISODES, _EPISODE_STEPS = 200, 100
_SETTLE_SECONDS: Final = 0.3
"""Longer than the log waits before it commits."""


class Running(NamedTuple):
    """A server that answers."""

    url: str
    pid: int

    def switch(self, *, is_on: bool) -> None:
        """Put the part back or take it out, and wait until what was begun is done with."""
        for pid in process_tree(self.pid):
            os.kill(pid, PUT_BACK if is_on else TAKE_OUT)
        time.sleep(_SETTLE_SECONDS)


def write_armed_policy(data: Path) -> None:
    """A policy whose stable version has a profile, so that drift is watched.

    No other was promoted before: for an hour after that episodes may be of either, and each
    request's are looked up, which is a cost of promoting and would hide a part's.
    """
    model = write_mlp(data / "policies")
    (data / "policies" / LEDGER_FILE).unlink()
    bundle = read_bundle(data / "policies" / POLICY / "1")
    write_bundle(
        data / "policies" / POLICY / str(_ARMED),
        bundle.manifest.model_copy(update={"version": _ARMED, "profile": _profile(model)}),
        model=model,
        golden=bundle.golden,
        card=f"# {POLICY} v{_ARMED}\n\nUntrained: for measuring cost.\n",
    )
    armed = Entry(
        action="promote", policy=POLICY, version=_ARMED, who="benchmark", why="to measure it"
    )
    append_latest(FileLedger(data / "policies" / LEDGER_FILE), armed)


@contextmanager
def server_with(part: str, data: Path) -> Iterator[Running]:
    """One worker with the log on and no recorder beside it; yields once the model answers."""
    port = free_port()
    flags = ["--data", str(data), "--port", str(port), "--log-level", "warning", "--no-record"]
    flags += ["--deadline-ms", "1000", "--disk-free-share", "0"]
    url = f"http://127.0.0.1:{port}"

    def serves_model() -> bool:
        try:
            answer = httpx.get(f"{url}/v1/policies/{POLICY}", timeout=2.0)
        except httpx.TransportError:
            return False
        return answer.status_code == 200 and answer.json()["stable"] == _ARMED

    command = [sys.executable, "-m", "benchmarks.cost.without", part, *flags]
    with server_process(command, serves_model, _START_SECONDS) as pid:
        yield Running(url, pid)


@contextmanager
def scraped(url: str, after_seconds: float) -> Iterator[None]:
    """Ask for the metrics once meanwhile."""
    scraper = threading.Timer(
        after_seconds, lambda: httpx.get(f"{url}/metrics", timeout=10.0).raise_for_status()
    )
    scraper.start()
    try:
        yield
    finally:
        scraper.join()


def one_row() -> Request:
    """One observation with what its reward is joined by."""
    body = {
        "policy": POLICY,
        "observations": observations_of(POLICY, 1).tolist(),
        "episode_ids": [new_episode_id()],
        "steps": [17],
    }
    return Request("/v1/actions", msgspec.json.encode(body), {"Content-Type": "application/json"})


def _profile(model: bytes) -> Profile:
    rows = _EPISODES * _EPISODE_STEPS
    observations = observations_of(POLICY, rows)
    q_values, features = open_session(model).run([Q_VALUES, FEATURES], {OBSERVATIONS: observations})
    played = Played(
        observations=observations,
        cells=None,
        q_values=q_values,
        features=features,
        actions=q_values.argmax(axis=1),
        rewards=np.ones(rows),
        returns=np.full(_EPISODES, float(_EPISODE_STEPS)),
        lengths=np.full(_EPISODES, _EPISODE_STEPS),
    )
    return sum_up(played, None)
