"""Environments that change after training: a sensor, the physics, the camera."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest

from contract.drift_reference import DriftReference, make_columns
from service.monitoring.drift import judge
from service.monitoring.drift_window import DriftWindow
from tests.builders import WEIGHTS

ROWS: Final = 400
Array = npt.NDArray[Any]
Choose = Callable[[Array], int]


def episodes(environment: gymnasium.Env[Any, Any], choose: Choose, seed: int) -> Iterator[Array]:
    """The observations of one episode after another, [steps, ...]."""
    while True:
        observation, _ = environment.reset(seed=seed)
        seen, is_over = [], False
        while not is_over:
            seen.append(observation)
            observation, _, terminated, truncated, _ = environment.step(choose(observation))
            is_over = terminated or truncated
        yield np.array(seen)
        seed += 1


def drifted(reference: list[Array], live: Iterator[Array]) -> tuple[str, ...]:
    """The columns named after one window, one row in fifty of each live episode."""
    lengths = np.array([len(episode) for episode in reference])
    columns = DriftReference(observations=make_columns(np.concatenate(reference), lengths))
    window = DriftWindow(columns.observations, len(columns.observations), ROWS)
    rng = np.random.default_rng(8)
    while window.rows < ROWS:
        episode = next(live)
        kept = episode[rng.random(len(episode)) < 0.02][: ROWS - window.rows]
        if len(kept):
            window.add(kept)
    return judge({"observation": window}).worst


def take(episodes_: Iterator[Array], count: int) -> list[Array]:
    return [next(episodes_) for _ in range(count)]


def balance(observation: Array) -> int:
    """The linear policy of the builders."""
    return int(np.argmax(np.array(WEIGHTS) @ observation))


def cartpole(seed: int, **physics: float) -> Iterator[Array]:
    environment = gymnasium.make("CartPole-v1", max_episode_steps=200)
    for name, value in physics.items():
        setattr(environment.unwrapped, name, value)
    return episodes(environment, balance, seed)


CARTPOLE: Final = take(cartpole(1_000), 100)


def test_cartpole_as_it_was_is_well() -> None:
    assert drifted(CARTPOLE, cartpole(2_000)) == ()


def test_a_sensor_that_reads_a_degree_off_is_named() -> None:
    off = (episode + np.array([0, 0, 0.0175, 0]) for episode in cartpole(2_000))
    assert drifted(CARTPOLE, off)[0] == "observation[2]"


def test_a_unit_that_changed_is_named() -> None:
    scaled = (episode * np.array([1, 1, 1, 57.3]) for episode in cartpole(2_000))
    assert drifted(CARTPOLE, scaled)[0] == "observation[3]"


@pytest.mark.parametrize("physics", [{"force_mag": 15.0}, {"gravity": 15.0}, {"tau": 0.03}])
def test_changed_physics_of_cartpole_are_told(physics: dict[str, float]) -> None:
    assert drifted(CARTPOLE, cartpole(2_000, **physics)) != ()


def lunarlander(seed: int, gravity: float = -10.0) -> Iterator[Array]:
    """A lander that fires at random: it is down within a hundred steps."""
    rng = np.random.default_rng(seed)
    environment = gymnasium.make("LunarLander-v3", gravity=gravity)
    return episodes(environment, lambda _: int(rng.integers(4)), seed)


@pytest.mark.slow
def test_changed_gravity_of_lunarlander_is_told_and_the_same_is_not() -> None:
    reference = take(lunarlander(1_000), 100)
    assert drifted(reference, lunarlander(2_000)) == ()
    assert drifted(reference, lunarlander(2_000, gravity=-5.0)) != ()


def frames(seed: int, *, is_inverted: bool = False) -> Iterator[Array]:
    """Features of CartPole drawn as 20 by 20 pixels: a random projection, rectified."""
    projection = np.random.default_rng(9).standard_normal((400, 16)) / 20
    for episode in cartpole(seed):
        pixels = np.zeros((len(episode), 20, 20))
        columns = np.clip((episode[:, 0] + 2.4) / 4.8 * 20, 0, 19).astype(int)
        rows = np.clip((episode[:, 2] + 0.2) / 0.4 * 20, 0, 19).astype(int)
        steps = np.arange(len(episode))
        pixels[steps, rows, :] = 100
        pixels[steps, :, columns] = 255
        shown = 255 - pixels if is_inverted else pixels
        yield np.maximum(shown.reshape(len(episode), -1) / 255 @ projection, 0)


@pytest.mark.slow
def test_inverted_frames_are_told_by_their_features() -> None:
    reference = take(frames(1_000), 100)
    assert drifted(reference, frames(2_000)) == ()
    assert len(drifted(reference, frames(2_000, is_inverted=True))) == 5
