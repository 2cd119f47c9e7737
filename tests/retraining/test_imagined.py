import numpy as np
import pytest

from retraining.dynamics import DynamicsConfig
from retraining.imagined import ImaginedReturns, can_be_imagined, horizon_of, written_by
from retraining.importance import whole_episodes
from retraining.policies import policy_of
from tests.retraining.walks import STEPS, walk_log, walker

CONFIG = DynamicsConfig(
    members=2, updates=600, batch_size=64, hidden_size=32, learning_rate=0.01, starts=200
)


def test_what_acted_returns_in_the_model_what_the_log_says() -> None:
    log = walk_log(200, 0.3, np.random.default_rng(0))
    episodes = whole_episodes(log)
    found = ImaginedReturns(log, episodes, walker(3.0), 20, CONFIG, seed=1)
    # Three ones of six, and in 3 steps of 10 either.
    assert found.basis.logged_return == pytest.approx(3.1)
    assert found.basis.behaviour_estimate == pytest.approx(3.0, abs=0.2)
    assert found.basis.current_estimate == pytest.approx(3.0, abs=0.2)
    best, same = found.estimate([walker(6.0), walker(3.0)])
    assert best.advantage == pytest.approx(3.0, abs=0.3)
    assert (same.advantage, same.standard_error) == (0.0, 0.0)


def test_only_episodes_that_preferred_what_the_current_policy_does_are_its_own() -> None:
    own = walk_log(3, 0.3, np.random.default_rng(0))
    episodes = whole_episodes(own)
    assert len(written_by(own, episodes, policy_of(walker(3.0), own))) == 3
    # It differs in one cell of six.
    assert written_by(own, episodes, policy_of(walker(4.0), own)) == []
    by_heuristic = own._replace(is_policy=np.zeros(3 * STEPS, np.bool_))
    assert written_by(by_heuristic, episodes, policy_of(walker(3.0), own)) == []


def test_an_episode_is_as_long_as_the_longest_that_was_cut_off_or_as_the_discount_sees() -> None:
    log = walk_log(3, 0.0, np.random.default_rng(0))
    # 0.9 ** 44 is 0.0097.
    assert horizon_of(log, whole_episodes(log), 0.9) == 44
    cut = log._replace(terminated=log.truncated, truncated=log.terminated)
    assert horizon_of(cut, whole_episodes(cut), 0.9) == STEPS


def test_frames_and_rules_about_actions_are_left_to_fitted_values() -> None:
    log = walk_log(3, 0.0, np.random.default_rng(0))
    assert can_be_imagined(log)
    assert not can_be_imagined(log._replace(observations=log.observations[:, :, np.newaxis]))
    masked = log.legal_actions.copy()
    masked[5, 0] = False
    assert not can_be_imagined(log._replace(legal_actions=masked))
