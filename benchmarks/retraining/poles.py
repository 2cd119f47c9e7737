"""Agents that balance poles by what a service says, in a world that can be made to lie."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt

from dqn_client import Client, ClientError
from dqn_client.episodes import new_episode_id

POLICY: Final = "pole"
EPISODE_STEPS: Final = 200
_ANGLE: Final = 2
_TIMEOUT_SECONDS: Final = 600.0
"""A machine may stand still for a while; that is nobody's failure."""
_PAUSE_SECONDS: Final = 0.5
"""After a call that failed."""


class World(NamedTuple):
    """What agents sense, do and report; as it is where nothing is said."""

    shift: float = 0.0
    """Added to the pole's angle before it is sent, radians."""
    slip: float = 0.0
    """Share of steps in which an agent does something by chance and says that it obeyed."""
    left_pays: float = 1.0
    """Reported for a push to the left, where 1 is the truth."""


HEALTHY: Final = World()


@dataclass
class Tally:
    """What agents were answered, and what they earned."""

    rows: Counter[str] = field(default_factory=Counter)
    """By who answered: `model`, else the heuristic's reason."""
    failed: int = 0
    """Calls without an answer, after the client's own attempts."""
    steps: int = 0
    """Of episodes that are over and reported."""
    returns: list[float] = field(default_factory=list)
    """True ones, of episodes that were played in a healthy world from beginning to end."""


class _Pole:
    """One environment, and the episode that is played in it."""

    def __init__(self, seed: int) -> None:
        self._environment = gymnasium.make("CartPole-v1", max_episode_steps=EPISODE_STEPS)
        self._environment.reset(seed=seed)
        self.begin(HEALTHY)

    def begin(self, world: World) -> None:
        """Begin another episode."""
        self.observation: npt.NDArray[np.float32] = self._environment.reset()[0]
        self.episode_id = new_episode_id()
        self.world = world
        self.outcomes: list[dict[str, Any]] = []
        self.is_over = False

    def sensed(self) -> npt.NDArray[np.float32]:
        """What is sent."""
        sensed = self.observation.copy()
        sensed[_ANGLE] += self.world.shift
        return sensed

    def step(self, action: int, rng: np.random.Generator) -> None:
        """Do what was said, or slip; note what will be reported."""
        done = int(rng.integers(2)) if rng.random() < self.world.slip else action
        self.observation, _, terminated, truncated, _ = self._environment.step(done)
        self.is_over = bool(terminated or truncated)
        outcome: dict[str, Any] = {
            "policy": POLICY,
            "episode_id": self.episode_id,
            "step": len(self.outcomes),
            "reward": self.world.left_pays if action == 0 else 1.0,
        }
        if self.is_over:
            outcome |= {"terminated": bool(terminated), "truncated": bool(truncated)}
            outcome["final_observation"] = self.sensed().tolist()
        self.outcomes.append(outcome)


class Poles:
    """Owns the thread in which all poles are balanced, and what they were answered."""

    def __init__(
        self, server: str, key: str | None, num_poles: int, pause_seconds: float, seed: int
    ) -> None:
        self.world = HEALTHY
        self._server, self._key, self._pause_seconds = server, key, pause_seconds
        self._rng = np.random.default_rng(seed)
        self._poles = [_Pole(int(each)) for each in self._rng.integers(2**31, size=num_poles)]
        self._tally, self._lock = Tally(), threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, name="poles")
        self._thread.start()

    def stop(self) -> None:
        """Let them fall."""
        self._stop.set()
        self._thread.join()

    def take_tally(self) -> Tally:
        """What was answered since it was taken last."""
        with self._lock:
            taken, self._tally = self._tally, Tally()
            return taken

    def play(self, num_steps: int, world: World) -> None:
        """Wait until so many steps of a world are reported.

        Episodes that began in another world are played to their end in that one.
        """
        self.world = world
        before = self._tally.steps
        while self._tally.steps - before < num_steps and not self._stop.is_set():
            time.sleep(0.05)

    def _live(self) -> None:
        with Client(self._server, self._key, timeout_seconds=_TIMEOUT_SECONDS) as client:
            while not self._stop.wait(self._pause_seconds):
                try:
                    self._tick(client)
                except ClientError:
                    with self._lock:
                        self._tally.failed += 1
                    self._stop.wait(_PAUSE_SECONDS)

    def _tick(self, client: Client) -> None:
        """A step of each pole; none has moved where the call fails."""
        answer = client.act(
            np.stack([pole.sensed() for pole in self._poles]),
            policy=POLICY,
            episode_ids=[pole.episode_id for pole in self._poles],
            steps=[len(pole.outcomes) for pole in self._poles],
            explore=True,
        )
        for row, pole in enumerate(self._poles):
            who = answer.by(row)
            self._tally.rows[who.reason or who.source] += 1
            pole.step(answer.actions[row], self._rng)
        self._end([pole for pole in self._poles if pole.is_over], client)

    def _end(self, over: list[_Pole], client: Client) -> None:
        for pole in over:
            try:
                client.report(pole.outcomes)
            finally:
                with self._lock:
                    self._tally.steps += len(pole.outcomes)
                    if pole.world == HEALTHY:
                        self._tally.returns.append(float(len(pole.outcomes)))
                pole.begin(self.world)
