import numpy as np
import numpy.typing as npt
import pytest
import torch

from contract.heuristics import ConstantHeuristic, RandomHeuristic
from contract.manifest import Profile
from contract.profile import summarise
from exporter.graph import ServingGraph
from exporter.profile import collect_greedy, heuristic_returns, make_profile
from tests.exporter.checkpoints import ENVIRONMENT_ID, checkpoint, network, observations
from training.evaluate import Rollout

GRAPH = ServingGraph(network(hidden_sizes=(3,)), masked=False)


def rollout(observed: npt.NDArray[np.float32] | None = None) -> Rollout:
    """Two episodes of one and three steps."""
    return Rollout(
        observations=observations(4) if observed is None else observed,
        q_values=np.array([[1, -9], [2, 0], [3, 0], [4, 0]], dtype=np.float32),
        features=np.arange(12, dtype=np.float32).reshape(4, 3),
        actions=np.array([0, 0, 0, 0]),
        rewards=np.array([5.0, 1.0, 1.0, 2.0], dtype=np.float32),
        returns=np.array([5.0, 4.0], dtype=np.float32),
        lengths=np.array([1, 3]),
    )


def test_a_summary_gives_the_moments_and_the_inner_deciles() -> None:
    summary = summarise([*range(11), 1000])
    assert (summary.count, summary.minimum, summary.maximum) == (12, 0.0, 1000.0)
    assert summary.mean == pytest.approx(1055 / 12)
    assert summary.sd == pytest.approx(np.std([*range(11), 1000]))
    assert summary.deciles[4] == 5.5
    assert len(summary.deciles) == 9


def test_a_profile_takes_each_figure_from_its_own_column() -> None:
    profile = make_profile(rollout(), GRAPH, training_q_maximum=None)
    assert profile.episode_return.mean == 4.5
    assert profile.episode_length.mean == 2.0
    assert profile.reward.mean == 2.25
    assert profile.max_q.mean == 2.5
    assert profile.num_observations == 4


def test_an_action_never_taken_has_frequency_zero() -> None:
    assert make_profile(rollout(), GRAPH, None).action_frequencies == (1.0, 0.0)


def test_deciles_are_of_each_element_feature_and_q_value() -> None:
    profile = make_profile(rollout(), GRAPH, None)
    medians = [column[4] for column in profile.observation_deciles]
    assert medians == pytest.approx(np.median(observations(4), axis=0).tolist())
    assert [column[4] for column in profile.feature_deciles] == [4.5, 5.5, 6.5]
    assert [column[4] for column in profile.q_value_deciles] == [2.5, 0.0]


def test_features_are_profiled_as_they_are_served() -> None:
    wide = ServingGraph(network(), masked=False)
    penultimate = np.random.default_rng(1).normal(size=(4, 96)).astype(np.float32)
    profile = make_profile(rollout()._replace(features=penultimate), wide, None)
    projected = wide.project(torch.from_numpy(penultimate)).numpy()
    assert len(profile.feature_deciles) == 64
    assert profile.feature_deciles[63][4] == pytest.approx(np.median(projected[:, 63]))


@pytest.mark.parametrize(("in_training", "expected"), [(None, 9.0), (2.0, 9.0), (30.0, 30.0)])
def test_the_largest_q_is_that_of_training_or_of_the_profile(
    in_training: float | None, expected: float
) -> None:
    # The largest |Q| of the rollout is of an action not chosen, and negative.
    assert make_profile(rollout(), GRAPH, in_training).absolute_q_maximum == expected


def test_frames_have_no_deciles_of_their_own() -> None:
    frames = np.zeros((4, 24, 24), dtype=np.float32)
    assert make_profile(rollout(frames), GRAPH, None).observation_deciles == ()


def test_rounds_go_on_until_there_are_enough_observations() -> None:
    once = collect_greedy(checkpoint(), num_episodes=2, num_observations=1, seed=4)
    assert len(once.returns) == 2
    wanted = len(once.rewards) + 1
    twice = collect_greedy(checkpoint(), num_episodes=2, num_observations=wanted, seed=4)
    assert len(twice.returns) == 4
    assert len(twice.rewards) == len(twice.observations) == twice.lengths.sum() >= wanted
    assert not np.array_equal(twice.observations[0], twice.observations[twice.lengths[:2].sum()])


def test_short_episodes_end_after_ten_rounds() -> None:
    rounds = collect_greedy(checkpoint(), num_episodes=1, num_observations=10**9, seed=0)
    assert len(rounds.returns) == 10


def test_a_heuristic_that_always_pushes_left_drops_the_pole_within_ten_steps() -> None:
    returns = heuristic_returns(ConstantHeuristic(action=0), ENVIRONMENT_ID, 2, 20, seed=0)
    assert returns.shape == (20,)
    assert returns.min() >= 8
    assert returns.max() <= 10


def test_a_random_heuristic_is_random_and_repeatable() -> None:
    first = heuristic_returns(RandomHeuristic(), ENVIRONMENT_ID, 2, 20, seed=0)
    assert 15 < first.mean() < 35
    np.testing.assert_array_equal(
        first, heuristic_returns(RandomHeuristic(), ENVIRONMENT_ID, 2, 20, seed=0)
    )


def test_drift_and_conduct_are_not_armed_by_two_episodes() -> None:
    profile = make_profile(rollout(), GRAPH, None)
    assert profile.drift is None
    assert profile.conduct is None


def test_twenty_episodes_arm_drift_and_conduct() -> None:
    rng = np.random.default_rng(2)
    many = Rollout(
        observations=observations(200),
        q_values=rng.standard_normal((200, 2)).astype(np.float32),
        features=rng.standard_normal((200, 3)).astype(np.float32),
        actions=rng.integers(2, size=200),
        rewards=np.ones(200, dtype=np.float32),
        returns=np.full(20, 10.0, dtype=np.float32),
        lengths=np.full(20, 10),
    )
    profile = make_profile(many, GRAPH, None)
    assert profile.drift is not None
    assert [len(profile.drift.observations), len(profile.drift.features)] == [4, 3]
    assert len(profile.drift.q_values) == 2
    assert profile.conduct is not None
    assert profile.conduct.highest_reward == 1.0
    # What was measured survives the manifest's JSON.
    assert Profile.model_validate_json(profile.model_dump_json()) == profile
