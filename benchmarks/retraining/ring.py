"""The whole ring on one machine: Redis, service and recorder as processes, `dqn retrain` beside."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks.retraining.poles import EPISODE_STEPS, POLICY
from benchmarks.serving.processes import free_port, listens, server_process
from contract.bundle import read_bundle
from contract.declaration import read_declaration
from dqn_client import Client
from retraining.state import CycleState, read_states
from service.inference.policy import Policy, open_session
from service.keys import add_key

PLAN: Final[dict[str, Any]] = {
    "stages": [
        {"share": 0.1, "hold_seconds": 0, "minimum_blocks": 10},
        {"share": 0.5, "hold_seconds": 0, "minimum_blocks": 30},
    ],
    "mode": "auto",
    "margin": 0.05,
    "maximum_blocks": 2_000,
    "return_range": [0, EPISODE_STEPS],
}
_SCOPES: Final = {
    "agents": ["act", "report"],
    "retraining": ["read", "submit"],
    "operator": ["read", "submit", "operate"],
}
_DECLARATION: Final = """\
[actions]
labels = ["push_left", "push_right"]

# Worse than any policy here: what it answers must not be what is learned from.
[heuristic]
kind = "constant"

[exploration]
epsilon = 0.05
"""
_START_SECONDS: Final = 180.0
ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True)
class Ring:
    """What runs below one folder."""

    folder: Path
    service: str
    redis_url: str

    @property
    def data(self) -> Path:
        """The service's folder."""
        return self.folder / "data"

    def key(self, name: str) -> str:
        """The key of `agents`, `retraining` or `operator`."""
        return key_path(self.folder, name).read_text("utf-8")

    def client(self) -> Client:
        """An operator's."""
        return Client(self.service, self.key("operator"), timeout_seconds=600.0)

    def states(self) -> list[CycleState]:
        """Of all cycles, the oldest first."""
        return read_states(self.data / "retraining" / POLICY)

    @property
    def schema_hash(self) -> str:
        """Of the policy's declaration."""
        return read_declaration(self.data / "policies" / POLICY).schema_hash

    def policy(self, version: int) -> Policy:
        """A version as it is served."""
        bundle = read_bundle(self.data / "policies" / POLICY / str(version))
        return Policy(bundle.manifest, open_session(bundle.model))

    @contextmanager
    def retraining(self, flags: Sequence[str]) -> Iterator["subprocess.Popen[bytes]"]:
        """`dqn retrain --once` in a session of its own, as a schedule starts it."""
        command = [
            *(sys.executable, "-m", "cli", "retrain", "--once", "--policy", POLICY),
            *("--data", str(self.data), "--server", self.service),
            *("--key-file", str(key_path(self.folder, "retraining")), *flags),
        ]
        with (self.folder / "retrain.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env=os.environ | ONE_THREAD,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()


def key_path(folder: Path, name: str) -> Path:
    """The file that holds one of the keys."""
    return folder / f"{name}.key"


def prepare(folder: Path) -> None:
    """Keys and the declaration, for a folder without any."""
    write_declaration(folder)
    for name, scopes in _SCOPES.items():
        if not key_path(folder, name).exists():
            key_path(folder, name).write_text(add_key(folder / "keys", name, scopes), "utf-8")


def write_declaration(folder: Path) -> Path:
    """What the policy's first export is told; where it is."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "declaration.toml"
    path.write_text(_DECLARATION, "utf-8")
    return path


@contextmanager
def ring(folder: Path) -> Iterator[Ring]:
    """Everything up, around what lies in a folder already; ends what it started."""
    redis_port, service_port, recorder_port = free_port(), free_port(), free_port()
    redis_url, service = f"redis://127.0.0.1:{redis_port}/0", f"http://127.0.0.1:{service_port}"
    (folder / "redis").mkdir(exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(
            server_process(
                [
                    *("redis-server", "--bind", "127.0.0.1", "--port", str(redis_port)),
                    *("--dir", str(folder / "redis"), "--save", "", "--appendonly", "yes"),
                ],
                lambda: listens(redis_port),
                _START_SECONDS,
            )
        )
        stack.enter_context(
            server_process(
                [sys.executable, "-m", "service"],
                lambda: is_ready(service),
                _START_SECONDS,
                {
                    "DQN_SERVE_DATA": str(folder / "data"),
                    "DQN_SERVE_PORT": str(service_port),
                    "DQN_SERVE_KEYS_FILE": str(folder / "keys"),
                    "DQN_SERVE_REDIS_URL": redis_url,
                    "DQN_SERVE_DISK_FREE_SHARE": "0",
                    # What a busy machine answers late is no finding of this drill's.
                    "DQN_SERVE_DEADLINE_MS": "1000",
                },
            )
        )
        stack.enter_context(
            server_process(
                [sys.executable, "-m", "recorder"],
                lambda: listens(recorder_port),
                _START_SECONDS,
                {
                    "DQN_RECORD_DATA": str(folder / "data"),
                    "DQN_RECORD_REDIS_URL": redis_url,
                    "DQN_RECORD_SEAL_SECONDS": "1",
                    "DQN_RECORD_METRICS_PORT": str(recorder_port),
                },
            )
        )
        yield Ring(folder, service, redis_url)


def is_ready(service: str) -> bool:
    """Whether a service answers that it is."""
    try:
        return httpx.get(f"{service}/readyz", timeout=2.0).status_code == 200
    except httpx.TransportError:
        return False
