import os
import signal
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise

import numpy as np
import pytest

from training.ale_environments import AleEnvironments
from training.environments import Environments
from training.replay import Transitions
from training.vectorised import AsyncEnvironments, make_environments


@pytest.fixture
def processes() -> Iterator[AsyncEnvironments]:
    with closing(AsyncEnvironments("CartPole-v1", 5, seed=7, num_processes=2)) as environments:
        yield environments


def assert_same(found: Transitions, expected: Transitions) -> None:
    for name, column in expected._asdict().items():
        np.testing.assert_array_equal(getattr(found, name), column, err_msg=name)


def test_processes_give_what_stepping_one_after_another_gives(
    processes: AsyncEnvironments,
) -> None:
    alone = Environments("CartPole-v1", 5, seed=7)
    rng = np.random.default_rng(0)
    num_ended = 0
    for _ in range(60):
        actions = rng.integers(2, size=5)
        expected = alone.step(actions)
        assert_same(processes.step(actions), expected)
        np.testing.assert_array_equal(processes.observations, alone.observations)
        num_ended += int(expected.terminated.sum())
    assert num_ended > 4
    assert processes.states() == alone.states()


def test_what_a_step_gave_is_not_written_to_by_the_next(processes: AsyncEnvironments) -> None:
    first = processes.step(np.array([0, 1, 0, 1, 0]))
    copies = [column.copy() for column in first]
    processes.step(np.array([1, 1, 1, 1, 1]))
    for column, copy in zip(first, copies, strict=True):
        np.testing.assert_array_equal(column, copy)


def test_states_move_between_processes_and_one_after_another(processes: AsyncEnvironments) -> None:
    alone = Environments("CartPole-v1", 5, seed=7)
    for _ in range(40):
        alone.step(np.array([0, 1, 1, 0, 1]))
    processes.restore(alone.states())
    actions = np.array([1, 0, 0, 1, 1])
    assert_same(processes.step(actions), alone.step(actions))


def test_a_process_that_dies_is_told_of(processes: AsyncEnvironments) -> None:
    victim = processes._processes[0].pid
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="has died"):
        processes.step(np.zeros(5, np.int64))


def test_frames_pass_through_processes_unchanged() -> None:
    name = "ALE/Pong-v5?max_noops=3"
    alone = Environments(name, 3, seed=1)
    with closing(make_environments(name, 3, 1, "async", num_processes=9)) as processes:
        for action in (2, 3, 0, 5):
            actions = np.array([action, 0, 1])
            assert_same(processes.step(actions), alone.step(actions))


def test_the_emulators_own_games_end_with_their_last_frames_and_go_on_with_their_first() -> None:
    with closing(AleEnvironments("ALE/Pong-v5?max_screens=80", 2, seed=1)) as games:
        steps = [games.step(np.array([0, 2])) for _ in range(40)]
        ended = [step for step in steps if step.truncated.any()]
        assert ended
        for step, following in pairwise(steps):
            goes_on = ~(step.terminated | step.truncated)
            np.testing.assert_array_equal(
                step.next_observations[goes_on], following.observations[goes_on]
            )
        row = int(ended[0].truncated.argmax())
        # Three of the last frame's four were seen the step before; a new stack has seen none.
        last, before = ended[0].next_observations[row], ended[0].observations[row]
        np.testing.assert_array_equal(last[:3], before[1:])


def test_the_emulator_ends_episodes_with_lives() -> None:
    def num_ends(name: str) -> int:
        with closing(AleEnvironments(name, 1, seed=1)) as games:
            steps = [games.step(np.array([step % 3])) for step in range(150)]
        return sum(int(step.terminated[0]) for step in steps)

    assert num_ends("ALE/Breakout-v5") > num_ends("ALE/Breakout-v5?life_loss=false")


@pytest.mark.parametrize("name", ["CartPole-v1", "ALE/Pong-v5?crop_top=34"])
def test_the_emulator_refuses_what_it_cannot_do(name: str) -> None:
    with pytest.raises(ValueError, match="Atari games only, and crops no screen"):
        make_environments(name, 1, 0, "ale")
