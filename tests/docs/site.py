"""What a story begins with: a service that is acted on, its recorder and, where told, a Redis."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import gymnasium
import httpx

from dqn_client import Client, ClientError
from tests import builders
from tests.docs.pages import ROOT, free_ports

EPISODE_STEPS: Final = 60
ANGLE_ONLY: Final = ((0.0, 0.0, -3.0, 0.0), (0.0, 0.0, 3.0, 0.0))
"""Weights that ignore the pole's speed: about 42 steps of 60."""
_PROFILE: Final = builders.profile(
    episode_return=builders.distribution(60.0, 2.0), episode_length=builders.distribution(60.0, 2.0)
)
_NUM_AGENTS: Final = 3
_PAUSE_SECONDS: Final = 0.2
_PATIENCE_SECONDS: Final = 400.0
"""Far beyond what anything here takes, on a busy machine too."""
_SHOWN_OF_LOG: Final = 4000
"""Characters of each log that are shown where a story fails."""


class Agents:
    """Threads that play CartPole on a service until told to stop, whatever it says."""

    def __init__(self, url: str) -> None:
        self.num_episodes = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._live, args=(url, seed)) for seed in range(_NUM_AGENTS)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _live(self, url: str, seed: int) -> None:
        environment = gymnasium.make("CartPole-v1", max_episode_steps=EPISODE_STEPS)
        environment.reset(seed=seed)
        with Client(url, timeout_seconds=30.0) as client:
            while not self._stop.is_set():
                try:
                    self._play(client, environment)
                except ClientError:
                    # An end that is not accepted; the next episode may fare better.
                    self._stop.wait(_PAUSE_SECONDS)
        environment.close()

    def _play(self, client: Client, environment: Any) -> None:
        observation, _ = environment.reset()
        episode = client.episode(builders.POLICY)
        while not episode.is_over:
            action = episode.act(observation)
            observation, reward, terminated, truncated, _ = environment.step(action)
            episode.reward(reward, terminated, truncated or self._stop.is_set(), observation)
        with self._lock:
            self.num_episodes += 1


class Site:
    """Processes on this machine, below one folder."""

    def __init__(self, folder: Path, stack: ExitStack, *, has_redis: bool) -> None:
        self.folder = folder
        self.ports = free_ports()
        self.url = f"http://127.0.0.1:{self.ports['8000']}"
        self._stack = stack
        self._has_redis = has_redis

    def write_versions(self) -> None:
        """Version 1 balances the pole, version 2 does not look at its speed, 3 is as good as 1."""
        repository = self.folder / "data" / "policies"
        builders.write_policy(repository, profile=_PROFILE)
        builders.write_policy(repository, profile=_PROFILE, version=2, weights=ANGLE_ONLY)
        builders.write_policy(repository, profile=_PROFILE, version=3)

    def start(self, **settings: str) -> None:
        """Start service and recorder, and wait until both answer."""
        redis = f"redis://127.0.0.1:{self.ports['6379']}" if self._has_redis else ""
        variables = {
            "DQN_SERVE_PORT": self.ports["8000"],
            "DQN_SERVE_DISK_FREE_SHARE": 0,
            "DQN_SERVE_DEADLINE_MS": 1000,
            "DQN_SERVE_DRAIN_NOTICE_SECONDS": 0,
            "DQN_SERVE_RECORD": str(not self._has_redis).lower(),
            "DQN_RECORD_SEAL_SECONDS": 0.5,
            "DQN_RECORD_METRICS_PORT": self.ports["8001"],
        } | settings
        if self._has_redis:
            variables |= {"DQN_SERVE_REDIS_URL": redis, "DQN_RECORD_REDIS_URL": redis}
            self._run("recorder", "-m", "recorder", variables=variables)
        self._run("service", "-m", "service", variables=variables)
        wait_until(lambda: _answers(f"{self.url}/readyz"), "a ready service")
        metrics = f"http://127.0.0.1:{self.ports['8001']}/metrics"
        wait_until(lambda: _answers(metrics), "the recorder's metrics")

    def start_redis(self) -> "subprocess.Popen[bytes]":
        """A Redis that keeps what it holds, in the site's folder."""
        program = shutil.which("redis-server")
        assert program is not None, "redis-server is needed: apt-get install redis-server"
        settings = f"port {self.ports['6379']}\nbind 127.0.0.1\nappendonly yes\ndir {self.folder}\n"
        (self.folder / "redis.conf").write_text(settings, encoding="utf-8")
        log = self._stack.enter_context((self.folder / "redis.log").open("wb"))
        return self._own(subprocess.Popen([program, "redis.conf"], cwd=self.folder, stdout=log))

    def call(self, verb: str, **fields: Any) -> None:
        """An operator's call."""
        url = f"{self.url}/v1/policies/{builders.POLICY}/{verb}"
        httpx.post(url, json=fields, timeout=120.0).raise_for_status()

    def metric(self, port: str, start: str) -> float:
        """The first sample that begins so; 0 where there is none."""
        url = f"http://127.0.0.1:{self.ports[port]}/metrics"
        lines = httpx.get(url, timeout=30.0).text.splitlines()
        return float(next((each.split()[-1] for each in lines if each.startswith(start)), 0.0))

    def act(self) -> Agents:
        """Let agents live on it until the story ends."""
        agents = Agents(self.url)
        self._stack.callback(agents.stop)
        return agents

    def _run(self, name: str, *arguments: str, variables: dict[str, Any]) -> None:
        log = self._stack.enter_context((self.folder / f"{name}.log").open("wb"))
        clean = {name: value for name, value in os.environ.items() if name[:4] != "DQN_"}
        told = {name: str(value) for name, value in variables.items()}
        self._own(
            subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self.folder,
                env=clean | told | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                stderr=log,
            )
        )

    def _own(self, process: "subprocess.Popen[bytes]") -> "subprocess.Popen[bytes]":
        def end() -> None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)

        self._stack.callback(end)
        return process


@contextmanager
def site(folder: Path, *, has_redis: bool = False) -> Iterator[Site]:
    """A place for a story; what was started in it is ended."""
    with ExitStack() as stack:
        try:
            yield Site(folder, stack, has_redis=has_redis)
        except BaseException as error:
            for log in sorted(folder.glob("*.log")):
                told = log.read_text(encoding="utf-8", errors="replace")
                error.add_note(f"--- {log.name}\n{told[-_SHOWN_OF_LOG:]}")
            raise


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Wait for something that happens in another process."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < until, f"never came: {what}"
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5.0).status_code == 200
    except httpx.TransportError:
        return False
