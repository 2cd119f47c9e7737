from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from training.n_step import NStepAccumulator, n_step_returns
from training.replay import Transitions


def steps(
    first: int, count: int, ended: dict[int, str] | None = None, lanes: int = 1
) -> list[Transitions]:
    """Steps of `lanes` environments: step t of lane k has observation t + 100 k, reward 2**t."""
    ends = ended or {}
    made = []
    for number in range(first, first + count):
        observations = np.array([[number + 100.0 * lane] for lane in range(lanes)], np.float32)
        made.append(
            Transitions(
                observations=observations,
                actions=np.full(lanes, number % 4),
                rewards=np.full(lanes, 2.0**number, np.float32),
                next_observations=observations + 0.5,
                terminated=np.full(lanes, ends.get(number) == "terminated"),
                truncated=np.full(lanes, ends.get(number) == "truncated"),
            )
        )
    return made


def added(
    accumulator: NStepAccumulator, walked: list[Transitions]
) -> tuple[Transitions, npt.NDArray[np.int64]]:
    found = accumulator.add(walked)
    assert found is not None
    return found


def test_later_rewards_are_discounted_once_a_step() -> None:
    returns, spans = n_step_returns(
        np.array([[1.0, 10.0, 100.0]], np.float32), np.zeros((1, 3), np.bool_), 0.5
    )
    assert returns.tolist() == [1.0 + 5.0 + 25.0]
    assert spans.tolist() == [3]


def test_rewards_after_the_end_of_an_episode_are_not_its_own() -> None:
    rewards = np.array([[1.0, 10.0, 100.0]] * 3, np.float32)
    ended = np.array([[True, False, True], [False, True, False], [False, False, True]])
    returns, spans = n_step_returns(rewards, ended, 0.5)
    assert returns.tolist() == [1.0, 6.0, 31.0]
    assert spans.tolist() == [1, 2, 3]


def test_a_transition_leads_to_what_is_seen_after_its_last_step() -> None:
    transitions, spans = added(NStepAccumulator(3, 0.5), steps(0, 4, lanes=2))
    assert transitions.observations[:, 0].tolist() == [0.0, 100.0, 1.0, 101.0]
    assert transitions.next_observations[:, 0].tolist() == [2.5, 102.5, 3.5, 103.5]
    # 1 + 2/2 + 4/4, then twice that.
    assert transitions.rewards.tolist() == [3.0, 3.0, 6.0, 6.0]
    assert transitions.actions.tolist() == [0, 0, 1, 1]
    assert spans.tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_an_episode_that_ends_within_is_cut_there_and_keeps_its_flag(end: str) -> None:
    transitions, spans = added(NStepAccumulator(3, 0.5), steps(0, 5, {1: end}))
    assert spans.tolist() == [2, 1, 3]
    assert transitions.rewards.tolist() == [2.0, 2.0, 12.0]
    assert transitions.next_observations[:, 0].tolist() == [1.5, 1.5, 4.5]
    assert transitions.terminated.tolist() == [end == "terminated"] * 2 + [False]
    assert transitions.truncated.tolist() == [end == "truncated"] * 2 + [False]


def test_the_last_steps_wait_for_those_that_follow() -> None:
    accumulator = NStepAccumulator(3, 0.5)
    assert accumulator.add(steps(0, 2)) is None
    transitions, _ = added(accumulator, steps(2, 1))
    assert transitions.observations[:, 0].tolist() == [0.0]
    transitions, _ = added(accumulator, steps(3, 2))
    assert transitions.observations[:, 0].tolist() == [1.0, 2.0]


def test_pieces_give_what_the_whole_gives() -> None:
    whole, spans = added(NStepAccumulator(4, 0.9), steps(0, 12, {4: "terminated"}, lanes=3))
    accumulator = NStepAccumulator(4, 0.9)
    parts = [
        accumulator.add(piece)
        for piece in (
            steps(0, 1, lanes=3),
            steps(1, 7, {4: "terminated"}, lanes=3),
            steps(8, 4, lanes=3),
        )
    ]
    found = [part for part in parts if part is not None]
    for name, column in whole._asdict().items():
        pieces = [getattr(transitions, name) for transitions, _ in found]
        np.testing.assert_array_equal(np.concatenate(pieces), column)
    np.testing.assert_array_equal(np.concatenate([each for _, each in found]), spans)


def test_one_step_is_the_transition_as_it_was_walked() -> None:
    walked = steps(5, 2, {5: "terminated"}, lanes=2)
    transitions, spans = added(NStepAccumulator(1, 0.5), walked)
    for name, column in transitions._asdict().items():
        expected = np.concatenate([getattr(step, name) for step in walked])
        np.testing.assert_array_equal(column, expected)
    assert spans.tolist() == [1] * 4


@pytest.mark.parametrize("waiting", [0, 1, 2])
def test_a_restored_accumulator_goes_on_as_the_saved_one(waiting: int) -> None:
    saved, restored = NStepAccumulator(3, 0.9), NStepAccumulator(3, 0.9)
    if waiting:
        saved.add(steps(0, waiting, {0: "truncated"}))
    restored.load_arrays(saved.arrays())
    results: list[Any] = [each.add(steps(waiting, 3)) for each in (saved, restored)]
    for first, second in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_array_equal(first, second)
