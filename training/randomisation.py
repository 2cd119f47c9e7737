"""Domain randomisation (Tobin et al., 2017): each episode has a physics and a sensor of its own.

A policy that has met many of them is not surprised by the one it serves. Evaluations play the
nominal environment.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.envs.box2d.lunar_lander import LunarLander
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

Observation = npt.NDArray[Any]

OBSERVATION_NOISE = "observation_noise"
OBSERVATION_SHIFT = "observation_shift"
SENSOR = (OBSERVATION_NOISE, OBSERVATION_SHIFT)

_CARTPOLE_PHYSICS = ("gravity", "masscart", "masspole", "length", "force_mag")
_LUNARLANDER_PHYSICS = ("gravity", "wind_power", "turbulence_power")

_SEED_KEY = 0x5EED
"""Sets the draws of an episode's physics apart from those of its first state."""


class Range(NamedTuple):
    """Where an episode's value is drawn from, uniformly."""

    low: float
    high: float


class RandomisedPhysics(gymnasium.Wrapper[Observation, Any, Observation, Any]):
    """Draws physical constants anew for each episode of CartPole or LunarLander."""

    def __init__(
        self, environment: gymnasium.Env[Observation, Any], ranges: Mapping[str, Range]
    ) -> None:
        """Take over an environment.

        Args:
            environment: The nominal one.
            ranges: For each constant that varies, by the name of its attribute.

        Raises:
            ValueError: The environment has no such constant, or is neither of the two.
        """
        super().__init__(environment)
        known = _physics_of(environment.unwrapped)
        unknown = sorted(set(ranges) - set(known))
        if unknown:
            raise ValueError(f"cannot vary {', '.join(unknown)}; can: {', '.join(known) or 'none'}")
        self._ranges = dict(ranges)
        self._rng = np.random.default_rng(_SEED_KEY)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; its `info` says what was drawn."""
        self._rng = _reseeded(self._rng, seed)
        drawn = {
            name: float(self._rng.uniform(*self._ranges[name])) for name in sorted(self._ranges)
        }
        _set_physics(self.env.unwrapped, drawn)
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, info | drawn


class RandomisedSensor(gymnasium.Wrapper[Observation, Any, Observation, Any]):
    """Adds to float observations a shift drawn for each episode and a noise for each step."""

    def __init__(
        self,
        environment: gymnasium.Env[Observation, Any],
        noise: float = 0.0,
        shift: float = 0.0,
    ) -> None:
        """Take over an environment.

        Args:
            environment: One whose observations are floats.
            noise: Standard deviation of what is added to each element at each step.
            shift: Standard deviation of what is added to each element for a whole episode.

        Raises:
            ValueError: Observations are not floats.
        """
        super().__init__(environment)
        space = environment.observation_space
        if not isinstance(space, gymnasium.spaces.Box) or space.dtype.kind != "f":
            raise ValueError(f"observations are {space}, expected floats to add noise to")
        # What is sensed may leave the bounds of what is.
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, space.shape, space.dtype)
        self._noise, self._shift_sd = noise, shift
        self._rng = np.random.default_rng(_SEED_KEY)
        self._shift: Observation = np.zeros(space.shape, space.dtype)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode with a sensor of its own."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._rng = _reseeded(self._rng, seed)
        self._shift = self._rng.normal(0.0, self._shift_sd, observation.shape)
        return self._sensed(observation), info

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Act; the reward is the true one."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._sensed(observation), float(reward), terminated, truncated, info

    def _sensed(self, observation: Observation) -> Observation:
        noise = self._rng.normal(0.0, self._noise, observation.shape)
        return (observation + self._shift + noise).astype(observation.dtype)


def _reseeded(rng: np.random.Generator, seed: int | None) -> np.random.Generator:
    return rng if seed is None else np.random.default_rng((_SEED_KEY, seed))


def _physics_of(environment: gymnasium.Env[Any, Any]) -> tuple[str, ...]:
    match environment:
        case CartPoleEnv():
            return _CARTPOLE_PHYSICS
        case LunarLander():
            return _LUNARLANDER_PHYSICS
        case _:
            return ()


def _set_physics(environment: gymnasium.Env[Any, Any], constants: Mapping[str, float]) -> None:
    for name, value in constants.items():
        setattr(environment, name, value)
    if isinstance(environment, CartPoleEnv):
        environment.total_mass = environment.masspole + environment.masscart
        environment.polemass_length = environment.masspole * environment.length
    elif constants.keys() & {"wind_power", "turbulence_power"}:
        environment.enable_wind = True  # type: ignore[attr-defined]
