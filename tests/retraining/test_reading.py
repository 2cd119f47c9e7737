from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contract.manifest import RewardTransform
from recorder.dataset.build import build
from recorder.dataset.load import Dataset, read_dataset
from recorder.dataset.store import DatasetStore
from recorder.dataset.transitions import LoggedTransitions
from retraining.reading import (
    Known,
    as_steps,
    newest_parts,
    read_log,
    split_episodes,
    suspicions,
)
from tests.builders import POLICY
from tests.recorder.dataset.episodes import Log
from tests.retraining.serving import NOW, current_network, episode, seal_episodes
from tests.retraining.walks import walk_log

TRANSFORM = RewardTransform(clip=0.5, scale=2.0)


def known(**changes: Any) -> Known:
    return Known(1, current_network(), 1.0, 1.0, RewardTransform())._replace(**changes)


def logged(**changes: Any) -> LoggedTransitions:
    """Three steps: a greedy one of the model, an explored one, one of a heuristic."""
    q_values = np.array([[3.0, 1.0], [3.0, 1.0], [np.nan, np.nan]], np.float16)
    return LoggedTransitions(
        observations=np.zeros((3, 4), np.float32),
        actions=np.array([0, 1, 1]),
        rewards=np.array([1.0, 1.0, 0.25], np.float32),
        next_observations=np.zeros((3, 4), np.float32),
        has_next_observations=np.ones(3, np.bool_),
        terminated=np.zeros(3, np.bool_),
        truncated=np.zeros(3, np.bool_),
        propensities=np.array([0.9, 0.1, np.nan], np.float32),
        epsilons=np.array([0.2, 0.2, 0.0], np.float32),
        q_values=q_values,
        action_masks=np.ones((3, 2), np.bool_),
        behaviours=np.array([0, 0, 1], np.int32),
        versions=np.array([1, 1, -1], np.int32),
        episodes=np.zeros(3, np.int32),
        steps=np.arange(3, dtype=np.int32),
        times=np.zeros(3),
        logged_shares=np.array([1.0, 0.5, 0.25], np.float32),
    )._replace(**changes)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Twelve honest episodes, one whose observations were shifted, one with a strange reward."""
    data = tmp_path_factory.mktemp("log")
    strange = [episode(12, shift=0.5), episode(13, reward=7.0)]
    seal_episodes(data, [*(episode(number) for number in range(12)), *strange])
    return read_dataset(DatasetStore(data / "datasets"), POLICY)


def test_each_step_says_who_acted_and_how_likely_each_action_was() -> None:
    steps = as_steps(logged(), ["cartpole@1", "heuristic/constant@x"], TRANSFORM)
    np.testing.assert_allclose(
        steps.behaviour_probabilities, np.array([[0.9, 0.1], [0.9, 0.1], [0.0, 1.0]]), atol=1e-6
    )
    assert steps.is_preferred.tolist() == [True, False, False]
    assert steps.is_policy.tolist() == [True, True, False]
    assert steps.rewards.tolist() == [1.0, 1.0, 0.5]
    assert steps.weights.tolist() == [1.0, 2.0, 4.0]


def test_an_agent_that_tells_no_q_values_is_believed_its_propensity() -> None:
    nothing = np.full((3, 2), np.nan, np.float16)
    steps = as_steps(logged(q_values=nothing), ["agent/1", "agent/2"], TRANSFORM)
    np.testing.assert_allclose(
        steps.behaviour_probabilities, np.array([[0.9, 0.1], [0.9, 0.1], [0.0, 1.0]]), atol=1e-6
    )


def test_rows_that_no_honest_log_has_are_told_by_what_is_wrong() -> None:
    observations = np.zeros((3, 4), np.float32)
    observations[2, 1] = np.nan
    q_values = current_network()(torch.zeros(3, 4)).detach().numpy()
    q_values[1] += 1.0
    masks = np.array([[True, True], [True, False], [True, True]])
    found = suspicions(
        logged(
            observations=observations,
            q_values=q_values.astype(np.float16),
            action_masks=masks,
            rewards=np.array([1.09, 0.89, 1.0], np.float32),
            versions=np.array([1, 1, 1], np.int32),
        ),
        known(),
    )
    assert {why: flags.tolist() for why, flags in found.items()} == {
        "not_finite": [False, False, True],
        "reward_beyond_training": [False, True, False],
        "illegal_action": [False, True, False],
        "q_values_differ": [False, True, False],
    }


def test_episodes_that_do_not_fit_the_policy_are_left_out(dataset: Dataset) -> None:
    reading = read_log(dataset, known(), most_steps=100_000)
    assert reading.num_episodes == 12
    assert reading.suspicious == {
        "not_finite": 0,
        "reward_beyond_training": 1,
        "illegal_action": 0,
        "q_values_differ": 1,
    }
    assert reading.suspicious_share == pytest.approx(2 / 14)
    assert reading.older is None


def test_another_version_s_q_values_are_not_held_against_this_one(dataset: Dataset) -> None:
    assert read_log(dataset, known(version=2), 100_000).suspicious["q_values_differ"] == 0


def test_the_newest_steps_are_learned_from_and_half_as_many_older_ones_rehearsed(
    dataset: Dataset,
) -> None:
    reading = read_log(dataset, known(lowest_reward=0.0, highest_reward=9.0, version=2), 40)
    assert reading.older is not None
    assert (len(reading.recent.actions), len(reading.older.actions)) == (40, 20)
    assert reading.recent.episodes.min() >= reading.older.episodes.max()


def test_no_episode_is_both_learned_from_and_judged_by() -> None:
    log = walk_log(50, 0.1, np.random.default_rng(0))
    learned, held_out = split_episodes(log, 0.4, np.random.default_rng(1))
    assert len(np.unique(held_out.episodes)) == 20
    assert not set(learned.episodes.tolist()) & set(held_out.episodes.tolist())
    assert len(learned.actions) + len(held_out.actions) == len(log.actions)


def test_of_a_long_log_only_the_newest_parts_are_opened(tmp_path: Path) -> None:
    log, store = Log(tmp_path / "shards"), DatasetStore(tmp_path / "datasets")
    for first in (0, 4, 8):
        log.seal([record for number in range(first, first + 4) for record in episode(number)])
        build(tmp_path / "shards", store, POLICY, NOW)
    dataset = read_dataset(store, POLICY)
    assert len(dataset.manifests) == 3
    sizes = [part.num_steps for part in dataset.manifests]
    assert len(newest_parts(dataset, sizes[2])) == sizes[2]
    sampler = newest_parts(dataset, sizes[2] + 1)
    assert len(sampler) == sizes[1] + sizes[2]
    # As they were acted, the oldest first.
    assert (np.diff(sampler.take_all().times) >= 0).all()
