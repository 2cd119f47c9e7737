from typing import Any

import numpy as np
import pytest
import torch

from tests.training.builders import CORRIDOR, q_network, register_corridor
from training.actor import choose_actions, q_function, walk
from training.environments import Environments
from training.noisy import draw_noise

OBSERVATIONS = np.random.default_rng(0).normal(0.0, 3.0, (9, 4)).astype(np.float32)
Q_VALUES = np.array([[1.0, 5.0, 3.0]], np.float32).repeat(30_000, axis=0)


@pytest.mark.parametrize("normalise_observations", [False, True])
@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("rows", [1, 9])
def test_numpy_gives_the_networks_q_values(
    dueling: bool, normalise_observations: bool, rows: int
) -> None:
    network = q_network(dueling=dueling, normalise_observations=normalise_observations)
    with torch.no_grad():
        expected = network(torch.from_numpy(OBSERVATIONS[:rows])).numpy()
    found = q_function(network)(OBSERVATIONS[:rows])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "distribution",
    [None, {"kind": "quantiles", "size": 5}, {"kind": "categorical", "minimum": -3, "maximum": 9}],
)
@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("is_noisy", [False, True])
def test_numpy_gives_the_q_values_of_every_extension(
    distribution: dict[str, Any] | None, dueling: bool, is_noisy: bool
) -> None:
    network = q_network(
        distribution=distribution,
        dueling=dueling,
        layer_norm=True,
        noise_scale=0.5 if is_noisy else None,
    )
    q_values_of = q_function(network)
    for seed in range(2):
        draw_noise(network, torch.Generator().manual_seed(seed))
        for is_training in (True, False):
            network.train(is_training)
            with torch.no_grad():
                expected = network(torch.from_numpy(OBSERVATIONS)).numpy()
            np.testing.assert_allclose(q_values_of(OBSERVATIONS), expected, rtol=1e-4, atol=1e-5)


def test_numpy_follows_every_change_of_the_network() -> None:
    network = q_network(normalise_observations=True)
    assert network.normalisation is not None
    q_values_of = q_function(network)
    before = q_values_of(OBSERVATIONS)
    with torch.no_grad():
        network.state_dict()["layers.0.weight"].mul_(-1.0)
        network.normalisation.mean.add_(1.0)
        expected = network(torch.from_numpy(OBSERVATIONS)).numpy()
    assert not np.allclose(before, expected)
    np.testing.assert_allclose(q_values_of(OBSERVATIONS), expected, rtol=1e-5, atol=1e-6)


def test_without_exploration_every_action_is_greedy() -> None:
    actions = choose_actions(Q_VALUES, 0.0, np.random.default_rng(0))
    assert set(actions.tolist()) == {1}


def test_exploration_draws_every_action_alike_the_greedy_one_included() -> None:
    actions = choose_actions(Q_VALUES, 0.6, np.random.default_rng(0))
    # 0.6 / 3 of each, and 0.4 more of the greedy one; the tolerance is seven standard deviations.
    shares = np.bincount(actions) / len(actions)
    np.testing.assert_allclose(shares, [0.2, 0.6, 0.2], atol=0.02)


def test_a_walk_records_the_q_values_of_what_was_acted_on() -> None:
    register_corridor()
    environments = Environments(CORRIDOR, 2, seed=0)
    network = q_network(observation_shape=(2,), num_actions=2)
    q_values_of = q_function(network)
    walked = walk(environments, q_values_of, 0.0, np.random.default_rng(0), 4)
    assert walked.q_values.shape == (4, 2, 2)
    for transitions, q_values in zip(walked.transitions, walked.q_values, strict=True):
        np.testing.assert_array_equal(q_values_of(transitions.observations), q_values)
        np.testing.assert_array_equal(transitions.actions, q_values.argmax(axis=1))
