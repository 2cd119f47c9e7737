"""Agents that live on the service, and a world that can be made to go wrong."""

import threading
from dataclasses import dataclass, field
from typing import Any, Final

import gymnasium
import numpy as np

from benchmarks.drill.bundles import EPISODE_STEPS, POLICY
from dqn_client import Client, ClientError
from dqn_client.episodes import new_episode_id

_NUM_AGENTS: Final = 4
_PAUSE_SECONDS: Final = 0.1
_STEP_SECONDS: Final = 0.005


@dataclass
class World:
    """What agents see and report; the drill changes it while they live."""

    shift: float = 0.0
    """Added to the pole's angle, radians."""
    reward: float = 1.0
    reports: bool = True
    """Agents send outcomes."""


@dataclass
class Tally:
    """What the agents were answered."""

    model: int = 0
    heuristic: int = 0
    invalid: int = 0
    """Actions that are none."""
    errors: int = 0
    """Calls without an answer."""
    episodes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def copy(self) -> "Tally":
        """As it stands."""
        with self.lock:
            return Tally(self.model, self.heuristic, self.invalid, self.errors, self.episodes)

    def since(self, before: "Tally") -> "Tally":
        """What was added."""
        now = self.copy()
        return Tally(
            now.model - before.model,
            now.heuristic - before.heuristic,
            now.invalid - before.invalid,
            now.errors - before.errors,
            now.episodes - before.episodes,
        )


class Agents:
    """Owns the agents' threads."""

    def __init__(self, server: str) -> None:
        self.world, self.tally = World(), Tally()
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

    def _live(self, server: str, seed: int) -> None:
        environment = gymnasium.make("CartPole-v1", max_episode_steps=EPISODE_STEPS)
        environment.reset(seed=seed)
        with Client(server) as client:
            while not self._stop.is_set():
                try:
                    self._play(client, environment)
                except ClientError:
                    with self.tally.lock:
                        self.tally.errors += 1
                    self._stop.wait(_PAUSE_SECONDS)

    def _play(self, client: Client, environment: Any) -> None:
        episode_id, outcomes = new_episode_id(), []
        observation, _ = environment.reset()
        is_over, step = False, 0
        while not is_over and not self._stop.wait(_STEP_SECONDS):
            seen = observation + np.array([0, 0, self.world.shift, 0], dtype=np.float32)
            answer = client.act(seen[None], policy=POLICY, episode_ids=[episode_id], steps=[step])
            action = answer.actions[0]
            self._note(answer.by(0).source, is_valid=action in (0, 1))
            observation, _, terminated, truncated, _ = environment.step(action)
            is_over = terminated or truncated
            outcome: dict[str, Any] = {
                "policy": POLICY,
                "episode_id": episode_id,
                "step": step,
                "reward": self.world.reward,
            }
            if is_over:
                outcome |= {"terminated": bool(terminated), "truncated": bool(truncated)}
                outcome["final_observation"] = observation.tolist()
            outcomes.append(outcome)
            step += 1
        if is_over and self.world.reports:
            client.report(outcomes)
        with self.tally.lock:
            self.tally.episodes += is_over

    def _note(self, source: str, *, is_valid: bool) -> None:
        with self.tally.lock:
            self.tally.model += source == "model"
            self.tally.heuristic += source == "heuristic"
            self.tally.invalid += not is_valid
