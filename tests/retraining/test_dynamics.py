from typing import Any

import numpy as np
import pytest
import torch

from retraining.dynamics import Dynamics, DynamicsConfig
from tests.retraining.walks import STEPS, walk_log

CONFIG = DynamicsConfig(
    members=2, updates=600, batch_size=64, hidden_size=32, learning_rate=0.01, margin_share=0.1
)


def dynamics(**changes: Any) -> Dynamics:
    """Of walks that try both actions in every cell."""
    return Dynamics(walk_log(150, 1.0, np.random.default_rng(0), **changes), CONFIG, seed=1)


@pytest.fixture(scope="module")
def walked() -> Dynamics:
    return dynamics()


def from_cells(*cells: float) -> torch.Tensor:
    observations = torch.tensor([[cell, 1.0] for cell in cells])
    return observations.expand(CONFIG.members, -1, -1)


def test_steps_lead_where_they_led_and_pay_what_they_paid(walked: Dynamics) -> None:
    actions = torch.tensor([0, 1, 1, 0, 1]).expand(2, -1)
    following = walked.follow(from_cells(0, 1, 2, 3, 4), actions)
    expected = from_cells(1, 2, 3, 4, 5)
    torch.testing.assert_close(following.observations, expected, atol=0.1, rtol=0)
    torch.testing.assert_close(following.rewards, actions.float(), atol=0.1, rtol=0)
    assert following.is_known.all()


def test_an_episode_ends_where_it_ended_though_ends_are_rare(walked: Dynamics) -> None:
    following = walked.follow(from_cells(0, 2, 4, 5), torch.zeros((2, 4), dtype=torch.int64))
    assert following.terminated.tolist() == [[False, False, False, True]] * 2


def test_nothing_ends_where_nothing_ever_did() -> None:
    endless = dynamics(terminated=np.zeros(150 * STEPS, np.bool_))
    following = endless.follow(from_cells(0, 2, 5), torch.ones((2, 3), dtype=torch.int64))
    assert not following.terminated.any()


def test_what_lies_beyond_the_log_is_not_known_and_pays_no_more_than_was_logged(
    walked: Dynamics,
) -> None:
    # Cells 0 to 6 were logged; a tenth of them is the margin.
    following = walked.follow(from_cells(-3, 5, 7), torch.ones((2, 3), dtype=torch.int64))
    assert following.is_known.tolist() == [[False, True, False]] * 2
    assert following.rewards.max() <= 1.0


def test_a_log_that_says_nothing_of_what_followed_is_refused() -> None:
    with pytest.raises(ValueError, match="no logged step says what followed"):
        dynamics(has_next_observations=np.zeros(150 * STEPS, np.bool_))
