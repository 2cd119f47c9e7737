"""The service, the recorders and a Redis as processes that can be killed."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

import redis

from benchmarks.faults.load import POLICY
from benchmarks.faults.proxy import Proxy
from benchmarks.faults.store import Store
from benchmarks.serving.processes import free_port
from contract.declaration import ActionSpec, ObservationSpec, PolicyDeclaration, write_declaration
from contract.heuristics import ConstantHeuristic
from contract.segment_reader import read_shipped
from contract.segments import read_frames, segment_paths
from contract.streams import NUM_PARTITIONS, POLICIES_KEY, records_key
from recorder.shards import SUFFIX

_ROOT: Final = Path(__file__).parents[2]
_WAIT_SECONDS: Final = 600.0
"""Far beyond what anything here takes on a machine of its own."""
_NUM_WORKERS: Final = 3
_NUM_RECORDERS: Final = 2


class Ring:
    """One of the two ways to deploy: everything on one box, or around a Redis."""

    def __init__(self, data: Path, scratch: Path, redis_binary: str | None) -> None:
        self.data = data
        self._scratch = scratch
        self.port = free_port()
        folder = data / "policies" / POLICY
        folder.mkdir(parents=True)
        write_declaration(
            folder,
            PolicyDeclaration(
                observation=ObservationSpec(shape=(4,)),
                actions=ActionSpec(count=2),
                heuristic=ConstantHeuristic(),
            ),
        )
        self.store: Store | None = None
        self.proxies: list[Proxy] = []
        if redis_binary is not None:
            self.store = Store(redis_binary, scratch, free_port())
            self.proxies = [Proxy(self.store.port) for _ in range(2)]
        self._service: subprocess.Popen[bytes] | None = None
        self._recorders: list[subprocess.Popen[bytes]] = []
        self.start_service()
        self.start_recorders()

    def start_service(self) -> None:
        """Start it anew over what it left."""
        self._service = self._run(
            "service", f"--data={self.data}", f"--port={self.port}", f"--workers={_NUM_WORKERS}",
            "--disk-free-share=0", "--deadline-ms=1000", "--drain-notice-seconds=0",
            "--spool-commit-seconds=0.01",
        )  # fmt: skip

    def start_recorders(self) -> None:
        """Start those that are missing; on one box the service starts its own."""
        if self.store is None:
            return
        running = [each for each in self._recorders if each.poll() is None]
        missing = _NUM_RECORDERS - len(running)
        self._recorders = running + [
            self._run("recorder", f"--data={self.data}") for _ in range(missing)
        ]

    def workers(self) -> list[int]:
        """Process ids of the running workers."""
        return [pid for pid in self._children() if not _is_recorder(pid)]

    def recorders(self) -> list[int]:
        """Process ids of the running recorders."""
        own = [each.pid for each in self._recorders if each.poll() is None]
        return own + [pid for pid in self._children() if _is_recorder(pid)]

    def wait_for_a_shard(self) -> None:
        """Wait until a recorder seals: one that only starts is not worth a fault."""
        before = self._num_shards()
        wait_until(lambda: self._num_shards() > before, "a recorder seals")

    def kill_service(self) -> None:
        """The supervisor and all it has started, at once."""
        if self._service is None:
            return
        for pid in (self._service.pid, *self._children()):
            kill(pid)
        self._service.wait()

    def drain_spools(self) -> None:
        """As an operator would, whose service does not come back: `dqn spool drain` of each."""
        for folder in sorted((self.data / "spool").iterdir()):
            # Refused for as long as Redis holds records of it.
            wait_until(partial(self._drain, folder), f"{folder.name} is drained")

    def tear_a_tail(self, rng: random.Random) -> None:
        """Leave half a frame at the end of a spool, as a write that was cut off does."""
        folders = [each for each in (self.data / "spool").iterdir() if segment_paths(each)]
        if not folders:
            return
        newest = segment_paths(rng.choice(folders))[-1]
        content = newest.read_bytes()
        frames = list(read_frames(newest))
        starts = [0, *(frame.end_offset for frame in frames)]
        if len(starts) > 1:
            torn = content[starts[-2] : starts[-1]]
            newest.write_bytes(content[: starts[-1]] + torn[: rng.randrange(1, len(torn))])

    def is_answering(self) -> bool:
        """Whether the service takes a request."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=5)) as connection:
            try:
                connection.request("GET", "/readyz")
                response = connection.getresponse()
                response.read()
            except (OSError, HTTPException):
                return False
        return response.status == 200

    def drain(self) -> None:
        """Wait until shards have all that spools and Redis had; then stop."""
        wait_until(self.is_answering, "the service answers")
        if self.store is not None:
            self.start_recorders()
            wait_until(self._is_shipped, "spools and streams are empty")
        assert self._service is not None
        self._service.terminate()
        self._service.wait(_WAIT_SECONDS)
        if self.store is None:
            # It may have been stopped before its recorder had started.
            recorder = self._run("recorder", f"--data={self.data}")
            wait_until(lambda: _is_listening_to_signals(recorder.pid), "the recorder runs")
            recorder.terminate()
            recorder.wait(_WAIT_SECONDS)

    def close(self) -> None:
        """End every process."""
        self.kill_service()
        for process in self._recorders:
            kill(process.pid)
            process.wait()
        if self.store is not None:
            self.store.kill()
        for proxy in self.proxies:
            proxy.close()

    def _is_shipped(self) -> bool:
        assert self.store is not None
        for folder in (self.data / "spool").iterdir():
            numbers = [
                frame.last_sequence for path in segment_paths(folder) for frame in read_frames(path)
            ]
            if numbers and read_shipped(folder) < max(numbers):
                return False
        client = redis.Redis(port=self.store.port)
        policies: set[bytes] = client.smembers(POLICIES_KEY)  # type: ignore[assignment]
        lengths = [
            client.xlen(records_key(policy.decode(), partition))
            for policy in policies
            for partition in range(NUM_PARTITIONS)
        ]
        client.close()
        return not any(lengths)

    def _drain(self, folder: Path) -> bool:
        verb = ("spool", f"--shards={self.data / 'shards'}", "drain", str(folder))
        return self._run("cli", *verb).wait() == 0

    def _num_shards(self) -> int:
        return sum(1 for _ in (self.data / "shards").glob(f"*/raw/[0-9]*{SUFFIX}"))

    def _children(self) -> list[int]:
        if self._service is None:
            return []
        listed = Path(f"/proc/{self._service.pid}/task/{self._service.pid}/children")
        try:
            return [int(word) for word in listed.read_text(encoding="ascii").split()]
        except FileNotFoundError:
            return []

    def _run(self, module: str, *flags: str) -> subprocess.Popen[bytes]:
        # Each of them reaches Redis through a proxy of its own kind.
        urls = [f"redis://127.0.0.1:{proxy.port}/0" for proxy in self.proxies]
        variables = {"DQN_RECORD_SEAL_SECONDS": "0.2", "DQN_RECORD_METRICS_PORT": "0"}
        if urls:
            variables |= {
                "DQN_SERVE_REDIS_URL": urls[0],
                "DQN_RECORD_REDIS_URL": urls[1],
                "DQN_RECORD_LEASE_SECONDS": "1",
            }
        kept = {name: value for name, value in os.environ.items() if name[:4] != "DQN_"}
        with (self._scratch / f"{module}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", module, *flags],
                cwd=_ROOT, env=kept | variables, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip


def kill(pid: int) -> None:
    """SIGKILL, whether it is still there or not."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Wait for something that happens in another process."""
    until = time.monotonic() + _WAIT_SECONDS
    while not holds():
        if time.monotonic() > until:
            raise TimeoutError(f"never came: {what}")
        time.sleep(0.02)


def _is_listening_to_signals(pid: int) -> bool:
    """Whether a process has a handler for SIGTERM."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def _is_recorder(pid: int) -> bool:
    try:
        return b"recorder" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
