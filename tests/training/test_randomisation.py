from typing import Any

import gymnasium
import numpy as np
import pytest

from training.environment_name import make_environment, parse_name
from training.environments import Environments, describe_environment
from training.randomisation import RandomisedPhysics, RandomisedSensor, Range


def cartpole(**ranges: Range) -> gymnasium.Env[Any, Any]:
    return RandomisedPhysics(gymnasium.make("CartPole-v1"), ranges)


def test_a_pole_of_another_length_falls_as_its_equations_say() -> None:
    length, mass = 2.0, 0.4
    environment = cartpole(length=Range(length, length), masspole=Range(mass, mass))
    environment.reset(seed=1)
    bare: Any = environment.unwrapped
    bare.state = (0.0, 0.0, 0.1, 0.0)
    observation, *_ = environment.step(1)
    # Barto et al. (1983) without friction: force 10, cart 1 kg, gravity 9.8.
    total = 1.0 + mass
    temp = 10.0 / total
    angular = (9.8 * np.sin(0.1) - np.cos(0.1) * temp) / (
        length * (4 / 3 - mass * np.cos(0.1) ** 2 / total)
    )
    linear = temp - mass * length * angular * np.cos(0.1) / total
    np.testing.assert_allclose(observation[[1, 3]], [0.02 * linear, 0.02 * angular], rtol=1e-5)


def test_each_episode_draws_within_its_range_and_all_over_it() -> None:
    environment = cartpole(gravity=Range(5.0, 15.0))
    drawn = [environment.reset()[1]["gravity"] for _ in range(200)]
    assert min(drawn) >= 5.0
    assert max(drawn) <= 15.0
    assert min(drawn) < 6.0 < 14.0 < max(drawn)


def test_a_seed_decides_physics_and_first_state_apart() -> None:
    first = cartpole(gravity=Range(5.0, 15.0)).reset(seed=3)
    again = cartpole(gravity=Range(5.0, 15.0)).reset(seed=3)
    nominal = gymnasium.make("CartPole-v1").reset(seed=3)
    assert first[1] == again[1]
    np.testing.assert_array_equal(first[0], nominal[0])


def test_the_lander_falls_faster_where_gravity_is_stronger() -> None:
    def fallen(gravity: float) -> float:
        environment = RandomisedPhysics(
            gymnasium.make("LunarLander-v3"), {"gravity": Range(gravity, gravity)}
        )
        start, _ = environment.reset(seed=0)
        for _ in range(20):
            observation, *_ = environment.step(0)
        return float(start[1] - observation[1])

    assert fallen(-11.0) > fallen(-4.0) + 0.05


def test_wind_blows_once_it_is_varied() -> None:
    def path(name: str) -> list[float]:
        environment = make_environment(name, for_training=True)
        environment.reset(seed=0)
        return [float(environment.step(0)[0][0]) for _ in range(30)]

    assert path("LunarLander-v3?wind_power=20") != path("LunarLander-v3")


def test_a_shift_stays_for_the_episode_and_noise_does_not() -> None:
    def error(noise: float, shift: float) -> np.ndarray[Any, Any]:
        sensed = RandomisedSensor(gymnasium.make("CartPole-v1"), noise, shift)
        true = gymnasium.make("CartPole-v1")
        errors = [sensed.reset(seed=2)[0] - true.reset(seed=2)[0]]
        errors += [sensed.step(t % 2)[0] - true.step(t % 2)[0] for t in range(8)]
        return np.array(errors)

    shifted, noisy = error(0.0, 0.5), error(0.5, 0.0)
    np.testing.assert_allclose(shifted - shifted[0], 0.0, atol=1e-6)
    assert np.abs(shifted[0]).min() > 1e-3
    assert len(np.unique(shifted[0])) == 4
    assert 0.3 < noisy.std() < 0.7
    assert np.abs(noisy[1:] - noisy[:-1]).min() > 1e-4


def test_the_second_episode_of_a_sensor_has_another_shift() -> None:
    sensed = RandomisedSensor(gymnasium.make("CartPole-v1"), shift=100.0)
    first, second = sensed.reset(seed=2)[0], sensed.reset()[0]
    assert np.abs(first - second).min() > 1.0


def test_an_evaluation_plays_the_nominal_environment() -> None:
    name = "CartPole-v1?length=3:4&observation_noise=1"
    played, nominal = make_environment(name, for_training=False), gymnasium.make("CartPole-v1")
    np.testing.assert_array_equal(played.reset(seed=1)[0], nominal.reset(seed=1)[0])
    np.testing.assert_array_equal(played.step(1)[0], nominal.step(1)[0])


def test_randomised_environments_are_restored_bit_for_bit() -> None:
    name = "CartPole-v1?length=0.3:0.9&observation_noise=0.1&observation_shift=0.1"
    saved = Environments(name, 2, seed=4)
    for step in range(60):
        saved.step(np.array([step % 2, 1]))
    restored = Environments(name, 2, seed=4)
    restored.restore(saved.states())
    np.testing.assert_array_equal(saved.observations, restored.observations)
    found, expected = restored.step(np.array([1, 0])), saved.step(np.array([1, 0]))
    np.testing.assert_array_equal(found.next_observations, expected.next_observations)


def test_a_noisy_sensor_has_no_bounds() -> None:
    spec = describe_environment("CartPole-v1?observation_noise=0.1").observation
    largest = float(np.finfo(np.float32).max)
    assert (spec.low, spec.high) == (-largest, largest)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("CartPole-v1?wind_power=1:2", "cannot vary wind_power; can: gravity, masscart"),
        ("MountainCar-v0?gravity=1:2", "cannot vary gravity; can: none"),
        ("CartPole-v1?length=2:1", "not a range low:high"),
        ("CartPole-v1?length", "not one more key=value"),
        ("CartPole-v1?length=1&length=2", "not one more key=value"),
        ("CartPole-v9", "CartPole-v9"),
    ],
)
def test_a_name_that_cannot_be_made_is_refused_with_the_reason(name: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        make_environment(name, for_training=False)


def test_frames_take_no_noise() -> None:
    with pytest.raises(ValueError, match="expected floats"):
        RandomisedSensor(make_environment("ALE/Pong-v5", for_training=True), noise=0.1)


def test_a_camel_cased_game_is_found_in_snake_case() -> None:
    assert parse_name("ALE/MsPacman-v5?sticky=0.25").game == "ms_pacman"
    assert parse_name("CartPole-v1").game is None
