from typing import Any

import numpy as np
import pytest

from retraining.dynamics import DynamicsConfig
from retraining.estimates import possible_returns
from retraining.fitted_q import FittedQConfig
from retraining.gate import (
    Decision,
    Evidence,
    Gate,
    GateLimits,
    decide,
)
from retraining.policies import as_logged, policy_of
from tests.retraining.walks import STEPS, walk_log, walker

CONFIG = FittedQConfig(
    draws=2,
    starts=2,
    updates=300,
    batch_size=64,
    hidden_size=16,
    learning_rate=0.01,
    target_blend=0.05,
    n_step=3,
)

MODEL = DynamicsConfig(
    members=2, updates=600, batch_size=64, hidden_size=32, learning_rate=0.01, starts=20
)


def evidence(**changes: Any) -> Evidence:
    """A candidate that passes: logged returns of 40 that span 100, an advantage of 5."""
    fields: dict[str, Any] = {
        "num_episodes": 2000,
        "logged_return": 40.0,
        "logged_standard_error": 0.5,
        "return_range": 100.0,
        "lowest_possible": 1.0,
        "highest_possible": 110.0,
        "behaviour_estimate": 41.0,
        "current_estimate": 42.0,
        "candidate_estimate": 47.0,
        "advantage": 5.0,
        "advantage_lower_bound": 1.0,
        "disagreement": 0.1,
        "unsupported_share": 0.0,
        "effective_episodes": 150.0,
        "weighted_importance": 50.0,
        "doubly_robust": 56.0,
    }
    return Evidence(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "expected", "words"),
    [
        ({}, "pass", "is better than the current policy"),
        ({"advantage_lower_bound": -1.9}, "pass", "is better"),
        ({"advantage_lower_bound": -2.1}, "block", "may be worse"),
        ({"advantage": 0.4, "advantage_lower_bound": 0.3}, "block", "learned nothing"),
        # 151 where rewards allow 100, however good the advantage looks.
        ({"candidate_estimate": 151.0, "advantage": 70.0}, "block", "they say nothing"),
        ({"current_estimate": 0.9}, "block", "they say nothing"),
        ({"behaviour_estimate": 42.1}, "inconclusive", "misses what is known by 2.1"),
        ({"behaviour_estimate": 37.9}, "inconclusive", "misses what is known"),
        ({"behaviour_estimate": 42.9, "logged_standard_error": 1.5}, "pass", "is better"),
        ({"unsupported_share": 0.051}, "inconclusive", "never tried"),
        ({"doubly_robust": 57.1}, "inconclusive", "two methods disagree by 10.1"),
        ({"doubly_robust": 36.9}, "inconclusive", "two methods disagree"),
        ({"doubly_robust": None, "effective_episodes": None}, "pass", "is better"),
        # What is certainly worse is blocked, whether or not its actions were tried.
        ({"unsupported_share": 0.9, "advantage_lower_bound": -30.0}, "block", "may be worse"),
    ],
)
def test_each_figure_decides_at_its_limit(
    changes: dict[str, Any], expected: Decision, words: str
) -> None:
    decision, sentence = decide(evidence(**changes), GateLimits())
    assert decision == expected
    assert words in sentence


@pytest.fixture(scope="module")
def gate() -> Gate:
    """The current policy does 1 in three of six cells, and explores in 3 steps of 10."""
    log = walk_log(300, 0.3, np.random.default_rng(0))
    return Gate(log, walker(3.0), 0.9, CONFIG, MODEL, GateLimits(least_episodes=50), seed=1)


def test_a_better_policy_passes_a_worse_one_and_the_same_one_do_not(gate: Gate) -> None:
    better, worse, same = (gate.judge(walker(ones)) for ones in (6.0, 1.0, 3.0))
    assert (better.decision, worse.decision, same.decision) == ("pass", "block", "block")
    assert same.evidence.advantage == 0.0
    assert "learned nothing" in same.sentence
    # Three more ones.
    assert better.evidence.advantage == pytest.approx(3.0, abs=0.4)


def test_lower_bounds_are_in_the_order_of_true_returns(gate: Gate) -> None:
    bounds = gate.lower_bounds([walker(ones) for ones in (5.0, 1.0, 3.0, 6.0)])
    assert np.argsort(bounds).tolist() == [1, 2, 0, 3]


def test_what_the_log_never_tried_is_not_concluded_on() -> None:
    log = walk_log(300, 0.0, np.random.default_rng(0))
    limits = GateLimits(tolerated_share=100.0, least_gain_share=0.0)
    gate = Gate(log, walker(3.0), 0.9, CONFIG, MODEL, limits, seed=1)
    verdict = gate.judge(walker(5.0))
    # Cells 3 and 4 of six, in which the log holds zeros alone.
    assert verdict.evidence.unsupported_share == pytest.approx(2 / STEPS)
    assert verdict.decision != "pass"


def test_policies_are_played_in_a_model_of_their_own_log_and_fitted_to_anothers(
    gate: Gate,
) -> None:
    assert gate.judge(walker(6.0)).evidence.method == "played in a model"
    log = walk_log(100, 0.3, np.random.default_rng(0))
    anothers = Gate(log, walker(5.0), 0.9, CONFIG, MODEL, GateLimits(), seed=1)
    assert anothers.judge(walker(6.0)).evidence.method == "fitted Q"


def test_a_model_that_misses_what_the_log_returned_is_not_believed() -> None:
    # Whether an episode ends after cell 1 is chance, and a model knows of certainties alone.
    log = walk_log(300, 0.3, np.random.default_rng(0))
    is_short = np.repeat(np.random.default_rng(1).random(300) < 0.5, STEPS)
    ends = log.terminated | (is_short & (log.steps == 1))
    chancy = log._replace(terminated=ends).take(~is_short | (log.steps <= 1))
    model = MODEL.model_copy(update={"starts": 300})
    gate = Gate(chancy, walker(3.0), 0.9, CONFIG, model, GateLimits(), seed=1)
    assert gate.judge(walker(6.0)).evidence.method == "fitted Q"


def test_too_few_episodes_are_refused() -> None:
    log = walk_log(49, 0.3, np.random.default_rng(0))
    with pytest.raises(ValueError, match="49 whole episodes"):
        Gate(log, walker(3.0), 0.9, CONFIG, MODEL, GateLimits(), seed=1)


def test_possible_returns_are_of_one_step_or_of_as_many_as_there_may_be() -> None:
    rewards = np.array([-2.0, 1.0], np.float32)
    assert possible_returns(rewards, 4.0) == pytest.approx((-8 - 0.16, 4 + 0.16))
    # Where every step pays, the worst is to end at once.
    assert possible_returns(np.ones(3, np.float32), 4.0) == pytest.approx((1 - 0.08, 4 + 0.08))


def test_what_acted_is_followed_and_where_it_is_not_logged_the_current_policy_is() -> None:
    log = walk_log(1, 0.0, np.random.default_rng(0), actions=np.array([0, 0, 1, 1, 0, 1]))
    current = policy_of(walker(6.9), log)
    assert as_logged(log, current).next_actions.tolist() == [0, 1, 1, 0, 1, 1]
