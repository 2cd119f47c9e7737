"""Agents that live on the service, and a world that can be made to go wrong."""

import threading
import time
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import gymnasium
import numpy as np

from benchmarks.drill.bundles import EPISODE_STEPS, PAYS, POLICY
from dqn_client import Client, ClientError
from dqn_client.episodes import new_episode_id

_NUM_AGENTS: Final = 4
_PAUSE_SECONDS: Final = 0.1
_STEP_SECONDS: Final = 0.03


@dataclass
class World:
    """What agents see and report; the drill changes it while they live."""

    shift: float = 0.0
    """Added to the pole's angle, radians."""
    reward: float = 1.0
    """What a step pays, times what its episode pays."""
    reports: bool = True
    """Agents send outcomes."""


@dataclass
class Tally:
    """What agents were answered."""

    rows: Counter[str] = field(default_factory=Counter)
    """By who answered: `model`, else the heuristic's reason."""
    invalid: int = 0
    """Actions that are none."""
    failed: int = 0
    """Calls without an answer."""
    ended: list[float] = field(default_factory=list)
    """When episodes were over and reported, Unix seconds."""

    @property
    def model_share(self) -> float:
        """Of the rows; nothing was asked: all of them."""
        return self.rows["model"] / self.rows.total() if self.rows else 1.0

    @property
    def reasons(self) -> dict[str, float]:
        """Why the heuristic answered, and what share of the rows."""
        total = self.rows.total()
        return {why: n / total for why, n in self.rows.most_common() if why != "model"}

    def episodes_until(self, moment: float) -> int:
        """Episodes that were over by then."""
        return bisect_right(self.ended, moment)


class Agents:
    """Owns the agents' threads and what they were answered."""

    def __init__(self, server: str) -> None:
        self.world = World()
        self._tally, self._lock = Tally(), threading.Lock()
        self._first_rows: dict[int, float] = {}
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._live, args=(server, seed), name=f"agent-{seed}")
            for seed in range(_NUM_AGENTS)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let them go."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def take_tally(self) -> Tally:
        """What was answered since it was taken last."""
        with self._lock:
            taken, self._tally = self._tally, Tally()
            return taken

    def first_row_of(self, version: int) -> float | None:
        """When a version was first asked, whoever answered for it; Unix seconds."""
        return self._first_rows.get(version)

    def _live(self, server: str, seed: int) -> None:
        environment = gymnasium.make("CartPole-v1", max_episode_steps=EPISODE_STEPS)
        environment.reset(seed=seed)
        rng = np.random.default_rng(seed)
        with Client(server) as client:
            while not self._stop.is_set():
                try:
                    self._play(client, environment, float(rng.choice(PAYS)))
                except ClientError:
                    with self._lock:
                        self._tally.failed += 1
                    self._stop.wait(_PAUSE_SECONDS)

    def _play(self, client: Client, environment: Any, pay: float) -> None:
        episode_id, outcomes = new_episode_id(), []
        observation, _ = environment.reset()
        is_over, step = False, 0
        while not is_over and not self._stop.wait(_STEP_SECONDS):
            seen = observation + np.array([0, 0, self.world.shift, 0], dtype=np.float32)
            answer = client.act(seen[None], policy=POLICY, episode_ids=[episode_id], steps=[step])
            action, who = answer.actions[0], answer.by(0)
            self._note(who.reason or who.source, who.version, is_valid=action in (0, 1))
            observation, _, terminated, truncated, _ = environment.step(action)
            is_over = terminated or truncated
            outcome: dict[str, Any] = {
                "policy": POLICY,
                "episode_id": episode_id,
                "step": step,
                "reward": pay * self.world.reward,
            }
            if is_over:
                outcome |= {"terminated": bool(terminated), "truncated": bool(truncated)}
                outcome["final_observation"] = observation.tolist()
            outcomes.append(outcome)
            step += 1
        if not is_over:
            return
        if self.world.reports:
            client.report(outcomes)
        with self._lock:
            self._tally.ended.append(time.time())

    def _note(self, who: str, version: int | None, *, is_valid: bool) -> None:
        with self._lock:
            self._tally.rows[who] += 1
            self._tally.invalid += not is_valid
            if version is not None:
                self._first_rows.setdefault(version, time.time())
