import numpy as np
import pytest

from retraining.fitted_q import Fit, FittedQConfig, Policy, episode_draws, fit, standard_error
from retraining.inputs import feature_inputs, observation_inputs
from retraining.policies import policy_of
from tests.retraining.walks import STEPS, walk_log, walker

CONFIG = FittedQConfig(
    draws=3, starts=2, updates=250, batch_size=64, hidden_size=16, target_blend=0.05
)


def fitted(*ones_below: float, seed: int = 1, n_step: int = 3) -> Fit:
    log = walk_log(200, 0.3, np.random.default_rng(0))
    policies = [policy_of(walker(each), log) for each in ones_below]
    config = CONFIG.model_copy(update={"n_step": n_step, "learning_rate": 0.01})
    return fit(log, observation_inputs(log), policies, 0.9, 6.0, config, seed)


def test_policies_that_never_acted_are_valued_as_they_would_return() -> None:
    found = fitted(0.0, 3.0, 6.0).values.mean(axis=(1, 2))
    expected = [sum(0.9**step for step in range(ones)) for ones in (0, 3, 6)]
    np.testing.assert_allclose(found, np.array(expected), atol=0.25)


def test_a_policy_that_acts_alike_is_worth_exactly_the_same() -> None:
    # Both do 1 in cells 0 to 2, and are fitted apart.
    assert (fitted(2.6).values == fitted(3.2).values).all()


def test_members_differ_by_the_episodes_that_they_drew() -> None:
    values = fitted(6.0).values[0]
    assert values.shape == (2, 3)
    assert len(set(values.flatten().tolist())) == 6


def test_what_fitting_does_averages_out_and_what_the_log_leaves_open_does_not() -> None:
    rng = np.random.default_rng(5)
    log_alone = np.tile(rng.normal(size=4000), (2, 1))
    assert standard_error(log_alone) == pytest.approx(1.0, abs=0.1)
    fitting_alone = 3.0 * rng.normal(size=(2, 4000))
    assert standard_error(fitting_alone) < 0.5
    assert standard_error(log_alone + fitting_alone) == pytest.approx(1.0, abs=0.25)


def test_a_draw_takes_whole_episodes_and_counts_them_by_their_weight() -> None:
    log = walk_log(50, 0.0, np.random.default_rng(0), weights=np.full(300, 2.0, np.float32))
    draws = episode_draws(log, 4, np.random.default_rng(0)).reshape(4, 50, STEPS)
    assert (draws == draws[:, :, :1]).all()
    assert draws[:, :, 0].sum(axis=1).tolist() == [100.0] * 4
    assert (draws[0] != draws[1]).any()


def test_frames_are_seen_through_the_last_hidden_layer_at_mean_0_and_spread_1() -> None:
    log = walk_log(20, 0.0, np.random.default_rng(0))
    inputs = feature_inputs(walker(3.0), log)
    cells = log.observations[:, 0]
    # One unit of the layer is the cell, the others are 0.
    np.testing.assert_allclose(
        inputs.observations[:, 0].numpy(), (cells - 2.5) / cells.std(), rtol=1e-5
    )
    assert not inputs.observations[:, 1:].any()
    assert inputs.next_observations.shape == (20 * STEPS, 4)


def test_a_log_without_a_beginning_is_refused() -> None:
    log = walk_log(2, 0.0, np.random.default_rng(0))
    headless = log.take(log.steps > 0)
    policy = Policy(headless.actions, headless.actions)
    with pytest.raises(ValueError, match="0 begin an episode"):
        fit(headless, observation_inputs(headless), [policy], 0.9, 6.0, CONFIG, 0)
