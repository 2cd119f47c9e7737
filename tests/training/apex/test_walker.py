from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.training.apex.builders import apex_config
from training.apex.walker import Walker, actor_epsilon, first_errors
from training.network import NetworkConfig, QNetwork, initialise
from training.replay import Transitions

NETWORK = NetworkConfig(
    observation_shape=(4,),
    num_actions=2,
    hidden_sizes=(16, 16),
    dueling=False,
    normalise_observations=False,
)


def published(version: int, seed: int) -> tuple[int, dict[str, np.ndarray]]:
    network = QNetwork(NETWORK)
    initialise(network, torch.Generator().manual_seed(seed))
    return version, {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def test_the_first_actor_explores_most_and_the_last_by_the_full_power() -> None:
    epsilons = [actor_epsilon(index, 3, 0.5, 7.0) for index in range(3)]
    assert epsilons == [0.5, 0.5**4.5, 0.5**8]
    assert actor_epsilon(0, 1, 0.5, 7.0) == 0.5


def step(
    action: int, reward: float, terminated: bool = False, truncated: bool = False
) -> Transitions:
    nothing = np.zeros((1, 4), np.float32)
    return Transitions(
        nothing,
        np.array([action]),
        np.array([reward], np.float32),
        nothing,
        np.array([terminated]),
        np.array([truncated]),
    )


@pytest.mark.parametrize(
    ("terminated", "truncated", "span", "expected"),
    [
        # |1 + 10 * 0.5 + 0.25 * 40 - 3|: the value is of what is seen two steps later.
        (False, False, 2, 13.0),
        # Nothing follows a terminal state: |6 - 3|.
        (True, False, 2, 3.0),
        # The value before the truncation stands in: |6 + 0.25 * 8 - 3|.
        (False, True, 2, 5.0),
    ],
)
def test_a_first_error_bootstraps_after_the_steps_it_spans(
    terminated: bool, truncated: bool, span: int, expected: float
) -> None:
    walked = [
        (step(1, 1.0), np.array([[100.0, 3.0]], np.float32)),
        (step(0, 10.0), np.array([[8.0, 7.0]], np.float32)),
    ]
    ready = step(1, 6.0, terminated, truncated)
    errors = first_errors(walked, np.array([40.0], np.float32), (ready, np.array([span])), 0.5)
    assert errors.tolist() == [expected]


def test_a_walk_sends_every_transition_once_with_its_n_step_return(tmp_path: Path) -> None:
    walker = Walker(apex_config(tmp_path), NETWORK, index=0, life=0)
    sent = [walker.walk_with(published(0, seed=1)) for _ in range(12)]
    num_rows = sum(len(strip.actions) for strips, _ in sent for strip in strips)
    # Two steps of each of three environments wait for what follows them.
    assert num_rows == 12 * 8 * 3 - 2 * 3
    assert sum(report.num_steps for _, report in sent) == 12 * 8 * 3
    full = [strip for strips, _ in sent for strip in strips]
    rewards = np.concatenate([strip.rewards for strip in full])
    spans = np.concatenate([strip.steps for strip in full])
    terminated = np.concatenate([strip.terminated for strip in full])
    np.testing.assert_allclose(rewards, np.array([0.0, 1.0, 1.9, 2.71])[spans], rtol=1e-6)
    assert set(spans[~terminated].tolist()) == {3}
    assert set(spans[terminated].tolist()) == {1, 2, 3}


def test_a_walker_acts_with_the_weights_it_was_given_last(tmp_path: Path) -> None:
    def sent(seeds: list[int]) -> list[float]:
        walker = Walker(apex_config(tmp_path, actor_epsilon=1e-9), NETWORK, index=0, life=0)
        for version, seed in enumerate(seeds):
            _, report = walker.walk_with(published(version, seed))
        values: list[float] = report.absolute_q_values.tolist()
        return values

    assert sent([1, 1]) != sent([1, 2])


def test_another_life_walks_other_episodes_and_the_same_life_the_same(tmp_path: Path) -> None:
    def q_values(life: int, index: int = 0) -> list[float]:
        walker = Walker(apex_config(tmp_path), NETWORK, index, life)
        values: list[float] = walker.walk_with(published(0, seed=1))[1].absolute_q_values.tolist()
        return values

    first = q_values(life=0)
    assert q_values(life=0) == first
    assert q_values(life=1) != first
    assert q_values(life=0, index=1) != first


def test_what_actors_cannot_do_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="--no-normalise-observations"):
        apex_config(tmp_path, normalise_observations=True)
