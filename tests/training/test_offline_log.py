import numpy as np
import pytest
import torch

from tests.training.offline_logs import logged_steps
from training.offline_log import LoggedSteps, LogReplay, epsilon_greedy_probabilities, n_step_sums


def batch_of(log: LoggedSteps, place: int, n_step: int = 3) -> tuple[float, float, list[float]]:
    """Sum of rewards, discount and next observation's first element, of one place."""
    batch = LogReplay(log, n_step, discount=0.5).batch(torch.tensor([place]))
    return batch.rewards.item(), batch.discounts.item(), batch.next_observations[0].tolist()


def test_exploration_is_even_among_legal_actions() -> None:
    probabilities = epsilon_greedy_probabilities(
        np.array([2, 0]),
        np.array([0.3, 0.0], np.float32),
        np.array([[True, False, True], [True, True, True]]),
    )
    np.testing.assert_allclose(probabilities, np.array([[0.15, 0, 0.85], [1, 0, 0]]), rtol=1e-6)


def test_a_sum_stops_where_it_may_not_go_on() -> None:
    sums, spans = n_step_sums(
        np.array([1, 10, 100, 1000], np.float32), np.array([True, True, False, False]), 3, 0.5
    )
    assert sums.tolist() == [1 + 5 + 25, 10 + 50, 100, 1000]
    assert spans.tolist() == [3, 2, 1, 1]


def test_a_transition_of_three_steps_leads_to_the_fourth_observation() -> None:
    assert batch_of(logged_steps(5), 0) == (1 + 0.5 * 2 + 0.25 * 3, 0.125, [3.0, 0.0])


def test_a_sum_stops_before_an_explored_action_and_one_may_begin_with_it() -> None:
    log = logged_steps(5, is_preferred=np.array([True, True, False, True, True]))
    assert batch_of(log, 0) == (1 + 0.5 * 2, 0.25, [2.0, 0.0])
    assert batch_of(log, 2) == (3 + 0.5 * 4 + 0.25 * 5, 0.125, [5.0, 0.0])


def test_a_sum_does_not_run_into_the_next_episode_or_over_a_gap() -> None:
    episodes = np.array([0, 0, 1, 1, 1], np.int32)
    log = logged_steps(5, episodes=episodes, steps=np.array([0, 1, 0, 2, 3], np.int32))
    assert batch_of(log, 0) == (1 + 0.5 * 2, 0.25, [2.0, 0.0])
    assert batch_of(log, 2) == (3.0, 0.5, [3.0, 0.0])


def test_what_nothing_is_known_to_follow_is_neither_drawn_nor_led_to() -> None:
    has_next = np.array([True, True, False, False, False])
    log = logged_steps(3, has_next_observations=has_next[:3], terminated=np.zeros(3, np.bool_))
    assert len(LogReplay(log, 3, 0.5)) == 2
    assert batch_of(log, 1) == (2.0, 0.5, [2.0, 0.0])
    with pytest.raises(ValueError, match="none of 1 logged steps"):
        LogReplay(log.take(np.array([2])), 3, 0.5)


def test_next_actions_are_those_that_were_legal_then() -> None:
    legal = np.array([[True, True], [True, True], [False, True], [True, False]])
    log = logged_steps(4, legal_actions=legal)
    batch = LogReplay(log, 2, 0.5).batch(torch.tensor([0, 1, 3]))
    assert batch.next_legal_actions.tolist() == [[False, True], [True, False], [True, True]]
    assert batch.legal_actions.tolist() == [[True, True], [True, True], [True, False]]


def test_explored_steps_are_drawn_oftener_than_they_are_logged() -> None:
    is_preferred = np.ones(400, np.bool_)
    is_preferred[[17, 300]] = False
    replay = LogReplay(logged_steps(400, is_preferred=is_preferred), 1, 0.5, explored_share=0.25)
    drawn = replay.draw(1000, np.random.default_rng(3)).observations[:, 0]
    num_explored = int(((drawn == 17) | (drawn == 300)).sum())
    # A quarter, and the odd one among the others.
    assert 250 <= num_explored < 270
    never = LogReplay(logged_steps(400), 1, 0.5, explored_share=0.25)
    assert len(never.draw(10, np.random.default_rng(3)).actions) == 10
