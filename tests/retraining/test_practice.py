from typing import Any

import numpy as np
import pytest
import torch

from retraining.dynamics import Dynamics, DynamicsConfig
from retraining.practice import Practice, PracticeConfig, practise
from tests.retraining.walks import STEPS, walk_log, walker
from tests.training.builders import q_network
from training.offline_log import LoggedSteps, OfflineBatch

MODEL = DynamicsConfig(
    members=2, updates=600, batch_size=64, hidden_size=32, learning_rate=0.01, margin_share=0.1
)
BEYOND, DISCOUNT = -7.0, 0.5


def endless_log() -> LoggedSteps:
    """Nobody has been beyond cell 6, though nothing ended there."""
    log = walk_log(150, 1.0, np.random.default_rng(0))
    return log._replace(terminated=np.zeros_like(log.terminated))


@pytest.fixture(scope="module")
def endless() -> Dynamics:
    return Dynamics(endless_log(), MODEL, seed=1)


def practice(dynamics: Dynamics, horizon: int = 20, **changes: Any) -> Practice:
    fields: dict[str, Any] = {"lanes": 40, "steps_at_once": 5, "plays_kept": 1, "epsilon": 0.0}
    config = PracticeConfig(**(fields | changes))
    return Practice(dynamics, endless_log(), BEYOND, horizon, DISCOUNT, config, seed=3)


def drawn(found: Practice) -> OfflineBatch:
    return found.draw(400, np.random.default_rng(5))


def test_what_leaves_the_log_ends_there_with_a_low_value(endless: Dynamics) -> None:
    found = practice(endless)
    found.play(walker(6.0))
    batch = drawn(found)
    # Only from cell 6 does a step lead beyond what was logged.
    leaves = batch.next_observations[:, 0] > 6.6
    assert 0 < leaves.sum() < 200
    assert torch.equal(batch.terminated, leaves)
    pays = (batch.observations[:, 0] < 5.5).float()
    torch.testing.assert_close(batch.rewards[~leaves], pays[~leaves], atol=0.1, rtol=0)
    lost = batch.rewards[leaves] - DISCOUNT * BEYOND
    assert ((lost > -0.1) & (lost < 1.1)).all()


def test_episodes_go_on_where_they_were_until_the_horizon_which_ends_nothing(
    endless: Dynamics,
) -> None:
    goes_on, cut = practice(endless, plays_kept=8), practice(endless, horizon=1, plays_kept=8)
    for _ in range(8):
        goes_on.play(walker(3.0))
        cut.play(walker(3.0))
    # Cells 0 to 5 were logged, and only what goes on comes to cell 6.
    assert (drawn(goes_on).observations[:, 0] > 5.5).any()
    assert (drawn(cut).observations[:, 0] < 5.5).all()
    assert not drawn(cut).terminated.any()


def test_only_the_newest_plays_are_learned_from(endless: Dynamics) -> None:
    found = practice(endless)
    found.play(walker(0.0))
    found.play(walker(6.6))
    assert (drawn(found).actions == 1).all()


def test_played_steps_explore_as_told_and_are_not_held_on_to(endless: Dynamics) -> None:
    found = practice(endless, epsilon=0.5)
    found.play(walker(6.6))
    batch = drawn(found)
    assert (batch.actions == 0).float().mean() == pytest.approx(0.25, abs=0.08)
    assert (batch.weights == 1).all()
    assert (batch.policy_weights == 0).all()


def test_a_policy_learns_in_a_model_what_a_greedy_log_hardly_shows() -> None:
    log = walk_log(200, 0.1, np.random.default_rng(0))
    config = PracticeConfig(
        updates=400,
        candidate_every_updates=150,
        batch_size=64,
        learning_rate=0.02,
        target_blend=0.1,
        plays_kept=4,
    )
    beginning = q_network(observation_shape=(2,), num_actions=2, hidden_sizes=(32,))
    learned = practise(log, beginning, 0.9, 10.0, config, MODEL, seed=2)
    assert learned.diverged == {}
    made = [(each.alpha, each.updates) for each in learned.candidates]
    assert made == [(None, 150), (None, 300), (None, 400)]
    cells = torch.tensor([[cell, 1.0] for cell in range(STEPS)])
    q_values = learned.candidates[-1].network(cells)
    assert q_values.argmax(dim=1).tolist() == [1] * STEPS
    # In the unit of the log: six ones to come, discounted by 0.9, and one.
    assert q_values[0, 1].item() == pytest.approx(4.7, abs=0.6)
    assert q_values[5, 1].item() == pytest.approx(1.0, abs=0.4)


def test_a_run_in_a_model_that_diverges_leaves_no_candidate() -> None:
    log = walk_log(60, 0.3, np.random.default_rng(0))
    config = PracticeConfig(updates=40, batch_size=32, plays_kept=1)
    model = MODEL.model_copy(update={"updates": 50})
    learned = practise(log, walker(3.0), 0.9, 1e-3, config, model, seed=2)
    assert learned.candidates == []
    assert list(learned.diverged) == [None]
