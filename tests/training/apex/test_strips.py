import numpy as np

from training.apex.strips import Strip, make_strips, share_frames
from training.environments import Environments
from training.replay import Transitions


def walked(name: str, num_steps: int) -> Transitions:
    environments = Environments(name, 2, seed=0)
    rng = np.random.default_rng(1)
    steps = [environments.step(rng.integers(2, size=2)) for _ in range(num_steps)]
    return Transitions(*map(np.concatenate, zip(*steps, strict=True)))


def strips(transitions: Transitions, depth: int, most_frames: int) -> list[Strip]:
    numbers = np.arange(len(transitions.actions))
    return make_strips(
        transitions,
        numbers % 3 + 1,
        numbers.astype(np.float32),
        depth=depth,
        most_frames=most_frames,
    )


def test_each_distinct_frame_is_kept_once_and_every_stack_is_found_again() -> None:
    a, b, c = (np.full((2, 2), value, np.uint8) for value in (1, 2, 3))
    stacks = np.array([[a, a, b], [a, b, c], [c, c, c]])
    frames, indices = share_frames(stacks)
    assert len(frames) == 3
    assert indices.tolist() == [[0, 0, 1], [0, 1, 2], [2, 2, 2]]
    np.testing.assert_array_equal(frames[indices], stacks)


def test_a_strip_of_atari_holds_every_observation_in_an_eighth_of_its_bytes() -> None:
    transitions = walked("ALE/Breakout-v5?max_noops=0", 60)
    (strip,) = strips(transitions, depth=4, most_frames=1000)
    np.testing.assert_array_equal(strip.frames[strip.observations], transitions.observations)
    np.testing.assert_array_equal(
        strip.frames[strip.next_observations], transitions.next_observations
    )
    plain = transitions.observations.nbytes + transitions.next_observations.nbytes
    assert strip.num_bytes < plain / 7


def test_numbers_that_are_not_stacked_are_shared_between_steps() -> None:
    transitions = walked("CartPole-v1", 10)
    (strip,) = strips(transitions, depth=1, most_frames=1000)
    np.testing.assert_array_equal(strip.frames[strip.observations[:, 0]], transitions.observations)
    num_ends = int(transitions.terminated.sum())
    assert len(strip.frames) == 2 * 11 + num_ends


def test_too_many_frames_make_more_strips_that_lose_and_double_nothing() -> None:
    transitions = walked("CartPole-v1", 16)
    made = strips(transitions, depth=1, most_frames=12)
    assert len(made) > 2
    assert max(len(strip.frames) for strip in made) <= 12
    np.testing.assert_array_equal(
        np.concatenate([strip.frames[strip.next_observations[:, 0]] for strip in made]),
        transitions.next_observations,
    )
    for name in ("actions", "rewards", "terminated", "truncated"):
        joined = np.concatenate([getattr(strip, name) for strip in made])
        np.testing.assert_array_equal(joined, getattr(transitions, name))
    assert np.concatenate([strip.errors for strip in made]).tolist() == list(range(32))
    assert np.concatenate([strip.steps for strip in made])[:4].tolist() == [1, 2, 3, 1]
