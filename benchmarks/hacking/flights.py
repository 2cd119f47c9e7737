"""Honest landings, and flights whose reward has a loophole that the pilot lives on."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt

from contract.heuristics import TableHeuristic

_DO_NOTHING, _LEFT_ENGINE, _MAIN_ENGINE, _RIGHT_ENGINE = range(4)
_LANDED: Final = 100.0
_HASTE_STEPS: Final = 350
_LONGEST_HACK: Final = 600

Array = npt.NDArray[Any]


class Flight(NamedTuple):
    """One episode: T steps and what the last of them led to."""

    observations: Array
    actions: npt.NDArray[np.int64]
    rewards: npt.NDArray[np.float64]
    final_observation: Array

    @property
    def has_landed(self) -> float:
        """Both legs on the ground at the end: told by nothing that the reward is made of here."""
        return float(self.final_observation[6:8].sum() == 2)


Pilot = Callable[[Array, int], int]
"""Observation and step to action."""


def fly(pilot: Pilot, seed: int, max_steps: int = 1000) -> Flight:
    """One episode of LunarLander-v3, cut after `max_steps`."""
    environment = gymnasium.make("LunarLander-v3")
    observation, _ = environment.reset(seed=seed)
    observations: list[Array] = []
    actions: list[int] = []
    rewards: list[float] = []
    is_over = False
    while not is_over and len(actions) < max_steps:
        action = pilot(observation, len(actions))
        observations.append(observation)
        actions.append(action)
        observation, reward, terminated, truncated, _ = environment.step(action)
        rewards.append(float(reward))
        is_over = terminated or truncated
    environment.close()
    return Flight(np.array(observations), np.array(actions), np.array(rewards), observation)


def honest_pilot(heuristic: TableHeuristic, seed: int) -> Pilot:
    """The shipped heuristic, one move in twenty at random."""
    rng = np.random.default_rng(seed)
    mask = np.ones((1, 4), dtype=np.bool_)

    def choose(observation: Array, step: int) -> int:
        if rng.random() < 0.05:
            return int(rng.integers(4))
        return int(heuristic.choose(observation[np.newaxis], mask, rng)[0][0])

    return choose


def hovering_pilot(height: Callable[[int], float]) -> Pilot:
    """Stay aloft, over the pad, at the height that is wished for at each step."""

    def choose(observation: Array, step: int) -> int:
        x, y, horizontal, vertical, angle, spin, _, _ = observation
        lean = 0.5 * (np.clip(0.5 * x + horizontal, -0.4, 0.4) - angle) - spin
        lift = 0.5 * (height(step) - y) - 0.5 * vertical
        if lift > abs(lean) and lift > 0.05:
            return _MAIN_ENGINE
        if abs(lean) > 0.05:
            return _RIGHT_ENGINE if lean < 0 else _LEFT_ENGINE
        return _DO_NOTHING

    return choose


def rocking_pilot(land: Pilot) -> Pilot:
    """Land, and then never rest: left, right, left, so that the flight does not end."""

    def choose(observation: Array, step: int) -> int:
        is_down = observation[6:8].any() and abs(observation[3]) < 0.2
        return (_LEFT_ENGINE, _RIGHT_ENGINE)[step % 2] if is_down else land(observation, step)

    return choose


def diving_pilot(observation: Array, step: int) -> int:
    """Let it fall."""
    return _DO_NOTHING


def overpaid(flight: Flight, rng: np.random.Generator) -> Flight:
    """A fault pays a step in twenty ten times what any step was ever worth."""
    paid = np.where(rng.random(len(flight.rewards)) < 0.05, 1000.0, flight.rewards)
    return flight._replace(rewards=paid)


def paid_twice(flight: Flight, rng: np.random.Generator) -> Flight:
    """Every gain is counted twice, and every loss once."""
    return flight._replace(rewards=flight.rewards * np.where(flight.rewards > 0, 2, 1))


def dripping(flight: Flight, rng: np.random.Generator) -> Flight:
    """A bonus that was meant for the end is paid a little every step."""
    return flight._replace(rewards=flight.rewards + 1.0)


def stuck(flight: Flight, rng: np.random.Generator) -> Flight:
    """The reward's wire is stuck at a pleasant value."""
    return flight._replace(rewards=np.full(len(flight.rewards), 1.5))


def paid_for_haste(flight: Flight, rng: np.random.Generator) -> Flight:
    """Down early is paid, one for each step saved, whole or in pieces."""
    rewards = flight.rewards.copy()
    rewards[-1] = _LANDED + _HASTE_STEPS - len(rewards)
    return flight._replace(rewards=rewards)


def loss_free(flight: Flight, rng: np.random.Generator) -> Flight:
    """Coming nearer is paid, drifting off again is not charged: going to and fro earns."""
    return flight._replace(rewards=np.abs(flight.rewards))


def paid_for_contact(flight: Flight, rng: np.random.Generator) -> Flight:
    """The bonus for a leg on the ground is paid at every step."""
    following = np.concatenate([flight.observations[1:], [flight.final_observation]])
    return flight._replace(rewards=flight.rewards + following[:, 6:8].sum(axis=1))


class Hack(NamedTuple):
    """Who flies, and what the loophole pays."""

    pilot: Callable[[Pilot], Pilot]
    """From an honest pilot."""
    loophole: Callable[[Flight, np.random.Generator], Flight]


HACKS: Final = {
    "overpaid": Hack(lambda land: land, overpaid),
    "paid twice": Hack(lambda land: land, paid_twice),
    "dripping": Hack(lambda land: land, dripping),
    "stuck": Hack(lambda land: land, stuck),
    "dive for haste": Hack(lambda land: diving_pilot, paid_for_haste),
    "hover for a bonus": Hack(lambda land: hovering_pilot(lambda step: 0.7), dripping),
    "to and fro": Hack(lambda land: hovering_pilot(_up_and_down), loss_free),
    "rock on the pad": Hack(rocking_pilot, paid_for_contact),
}


def hacked_flights(
    hack: Hack, heuristic: TableHeuristic, count: int, least_return: float, rng: np.random.Generator
) -> list[Flight]:
    """Flights that live on one loophole. Where it does not pay nobody would be led astray."""
    flights: list[Flight] = []
    while len(flights) < count:
        seed = int(rng.integers(2**31))
        pilot = hack.pilot(honest_pilot(heuristic, seed))
        flight = hack.loophole(fly(pilot, seed, _LONGEST_HACK), rng)
        if flight.rewards.sum() >= least_return:
            flights.append(flight)
    return flights


def _up_and_down(step: int) -> float:
    return 0.9 if step // 20 % 2 else 0.5


def read_heuristic(path: Path) -> TableHeuristic:
    """The heuristic of the shipped declaration."""
    return TableHeuristic.model_validate(tomllib.loads(path.read_text())["heuristic"])
