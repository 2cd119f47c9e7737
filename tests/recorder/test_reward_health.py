import numpy as np
import pytest

from recorder.reward_health import ReturnReference, ReturnWatch
from tests.builders import distribution, profile

TRAINING = ReturnReference(mean=200.0, sd=20.0, floor=0.0, num_episodes=1_000)


def episodes_until_told(reference: ReturnReference, share: float, seed: int) -> int:
    """Episodes of a policy that earns this share of what it should, until it is told."""
    rng, watch = np.random.default_rng(seed), ReturnWatch(reference)
    mean = reference.floor + share * (reference.mean - reference.floor)
    while not watch.is_falling and watch.num_episodes < 10_000:
        watch.add(rng.normal(mean, reference.sd))
    return watch.num_episodes


@pytest.mark.parametrize(
    ("mean", "floor", "expected"),
    [(500.0, 0.0, 400.0), (250.0, -200.0, 160.0), (-100.0, -500.0, -180.0)],
)
def test_the_limit_is_80_percent_of_what_is_earned_over_the_floor(
    mean: float, floor: float, expected: float
) -> None:
    assert ReturnReference(mean, 1.0, floor, 100).limit == pytest.approx(expected)


def test_a_policy_without_a_floor_is_held_against_80_percent_of_its_return() -> None:
    reference = ReturnReference.of(profile(episode_return=distribution(500.0, 5.0)), None)
    assert reference.limit == 400.0
    assert reference.sd == 5.0


def test_a_fall_by_a_tenth_is_told_within_60_episodes() -> None:
    told = [episodes_until_told(TRAINING, 0.9, seed) for seed in range(200)]
    assert np.quantile(told, 0.95) <= 60


def test_a_fall_by_a_tenth_of_negative_returns_is_told_too() -> None:
    lander = ReturnReference(mean=-100.0, sd=30.0, floor=-500.0, num_episodes=1_000)
    told = [episodes_until_told(lander, 0.9, seed) for seed in range(100)]
    assert np.median(told) <= 60


def test_returns_as_in_training_are_never_called_a_fall() -> None:
    assert min(episodes_until_told(TRAINING, 1.0, seed) for seed in range(5)) == 10_000


def test_a_mean_that_few_episodes_measured_is_not_taken_at_its_word() -> None:
    # Training's 100 episodes were lucky by two of their standard errors: 4 of 200.
    measured = ReturnReference(mean=204.0, sd=20.0, floor=0.0, num_episodes=100)
    rng, watch = np.random.default_rng(7), ReturnWatch(measured)
    for _ in range(5_000):
        watch.add(rng.normal(200.0, 20.0))
    assert not watch.is_falling


def test_one_disaster_is_not_a_fall() -> None:
    watch = ReturnWatch(TRAINING)
    watch.add(-1e9)
    assert not watch.is_falling


def test_a_policy_that_always_returned_the_same_may_return_a_little_less() -> None:
    watch = ReturnWatch(ReturnReference(mean=500.0, sd=0.0, floor=9.0, num_episodes=100))
    for _ in range(10_000):
        watch.add(499.0)
    assert not watch.is_falling
    for _ in range(60):
        watch.add(450.0)
    assert watch.is_falling


def test_the_alarm_ends_soon_after_the_fall_does() -> None:
    watch = ReturnWatch(TRAINING)
    for _ in range(10_000):
        watch.add(100.0)
    assert watch.is_falling
    for _ in range(60):
        watch.add(200.0)
    assert not watch.is_falling
