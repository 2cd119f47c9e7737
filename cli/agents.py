"""Live agents: each plays an environment through the service's HTTP API and reports its rewards."""

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

import gymnasium

from dqn_client import Client, ClientError, Episode

_PAUSE_SECONDS: Final = 1.0


@dataclass
class Tally:
    """What the agents have seen, for a person to watch. Guarded by its lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    decisions: int = 0
    by_heuristic: int = 0
    outcomes: int = 0
    episodes: int = 0
    errors: int = 0
    last_error: str = ""
    returns: deque[float] = field(default_factory=lambda: deque(maxlen=20))
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=500))
    """Of the latest calls, as an agent sees them."""

    def sentence(self, per_second: float) -> str:
        """One line that says how it goes."""
        with self.lock:
            returns, seconds = list(self.returns), sorted(self.seconds)
            mean = f"{sum(returns) / len(returns):.1f}" if returns else "-"
            median = f"{seconds[len(seconds) // 2] * 1000:.2f} ms" if seconds else "-"
            share = 1.0 - self.by_heuristic / max(self.decisions, 1)
            line = (
                f"{self.decisions:,} decisions ({per_second:.0f}/s, median {median}), "
                f"{share:.1%} by the model; {self.outcomes:,} outcomes; "
                f"{self.episodes} episodes, mean return of the last {len(returns)}: {mean}"
            )
            return f"{line}; last error: {self.last_error}" if self.last_error else line


class Agents:
    """Owns a handful of threads, each an agent in an environment of its own."""

    def __init__(
        self, server: str, policy: str, environment_id: str, count: int, steps_per_second: float
    ) -> None:
        self.tally = Tally()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._live,
                args=(server, policy, environment_id, seed, 1.0 / steps_per_second),
                name=f"agent-{seed}",
                daemon=True,
            )
            for seed in range(count)
        ]

    def start(self) -> None:
        """Let them act."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let each finish its step, report, and go."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _live(
        self, server: str, policy: str, environment_id: str, seed: int, step_seconds: float
    ) -> None:
        environment = gymnasium.make(environment_id)
        environment.reset(seed=seed)
        with Client(server) as client:
            while not self._stop.is_set():
                try:
                    self._play_episode(client, policy, environment, step_seconds)
                except ClientError as error:
                    with self.tally.lock:
                        self.tally.errors += 1
                        self.tally.last_error = str(error)
                    self._stop.wait(_PAUSE_SECONDS)
        environment.close()

    def _play_episode(
        self, client: Client, policy: str, environment: Any, step_seconds: float
    ) -> None:
        observation, _ = environment.reset()
        episode = client.episode(policy)
        while not episode.is_over:
            began_at = time.perf_counter()
            action = episode.act(observation)
            self._note_decision(episode, time.perf_counter() - began_at)
            observation, reward, terminated, truncated, _ = environment.step(action)
            # Who is told to stop cuts the episode off, so that its last reward is reported too.
            is_cut = truncated or self._stop.is_set()
            episode.reward(float(reward), terminated, is_cut, observation)
            self._note_outcome(episode)
            self._stop.wait(max(0.0, step_seconds - (time.perf_counter() - began_at)))

    def _note_decision(self, episode: Episode, seconds: float) -> None:
        with self.tally.lock:
            self.tally.decisions += 1
            by = episode.answered_by
            self.tally.by_heuristic += by is not None and by.source == "heuristic"
            self.tally.seconds.append(seconds)

    def _note_outcome(self, episode: Episode) -> None:
        with self.tally.lock:
            self.tally.outcomes += 1
            if episode.is_over and not self._stop.is_set():
                self.tally.episodes += 1
                self.tally.returns.append(episode.episode_return)
