import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.builders import q_network
from tests.training.offline_logs import logged_steps, two_way_log
from training.distributions import Quantiles
from training.network import QNetwork
from training.offline import ALONE, Candidate, Learned, OfflineConfig, choose, learn_candidates
from training.offline_learner import OfflineLearner, Terms, batch_loss, normalised
from training.offline_log import LogReplay, OfflineBatch


def network() -> QNetwork:
    return q_network(observation_shape=(2,), num_actions=2)


def config(**changes: Any) -> OfflineConfig:
    fields: dict[str, Any] = {
        "alphas": (0.5,),
        "updates": 160,
        "candidate_updates": (80,),
        "batch_size": 64,
        "learning_rate": 0.02,
        "target_blend": 0.05,
    }
    return OfflineConfig(**(fields | changes))


def learned(replay: LogReplay, rehearsal: LogReplay | None = None, **changes: Any) -> Learned:
    """Beside a log that returns of one unit are spread over; Q-values may reach 500."""
    settings = config(**changes)
    return learn_candidates(network(), replay, rehearsal, settings, 1.0, 500.0, rng())


def greedy_actions(network: QNetwork) -> list[int]:
    observations = torch.from_numpy(np.random.default_rng(9).normal(size=(50, 2)))
    actions: list[int] = network(observations.float()).argmax(dim=1).unique().tolist()
    return actions


def one_row(*, is_policy: bool) -> OfflineBatch:
    """Q-values log 1 and log 3 of a step that took action 1 for 2, with 4 * 0.5 to follow."""
    return OfflineBatch(
        observations=torch.zeros(1, 2),
        actions=torch.tensor([1]),
        rewards=torch.tensor([2.0]),
        next_observations=torch.ones(1, 2),
        terminated=torch.tensor([False]),
        discounts=torch.tensor([0.5]),
        legal_actions=torch.ones(1, 2, dtype=torch.bool),
        next_legal_actions=torch.ones(1, 2, dtype=torch.bool),
        behaviour_probabilities=torch.tensor([[0.0, 1.0]]),
        weights=torch.tensor([3.0]),
        policy_weights=torch.tensor([3.0 * is_policy]),
    )


def target_q_values(observations: Tensor) -> Tensor:
    return torch.tensor([[4.0, 50.0]])


def online_q_values(observations: Tensor) -> Tensor:
    return torch.tensor([[1.0, 0.0]])


@pytest.mark.parametrize(
    ("method", "is_policy", "expected"),
    [
        ("plain", True, 4.0 - math.log(3) - 0.5),
        ("cloning", True, math.log(4 / 3)),
        ("conservative", True, 4.0 - math.log(3) - 0.5 + 10 * math.log(4 / 3)),
        # A heuristic's step tells what followed, and is nothing to stay close to.
        ("conservative", False, 4.0 - math.log(3) - 0.5),
        ("cloning", False, 0.0),
    ],
)
def test_each_method_adds_up_its_terms(method: str, is_policy: bool, expected: float) -> None:
    loss = batch_loss(
        method,  # type: ignore[arg-type]
        10.0,
        1.0,
        torch.log(torch.tensor([[1.0, 3.0]])),
        normalised(one_row(is_policy=is_policy)),
        online_q_values,
        target_q_values,
    )
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_errors_and_gaps_are_measured_by_the_spread_of_returns() -> None:
    row = normalised(one_row(is_policy=True))
    scaled = row._replace(rewards=100 * row.rewards)
    q_values = torch.log(torch.tensor([[1.0, 3.0]]))
    losses = [
        batch_loss(
            "conservative",
            0.5,
            unit,
            unit * q_values,
            rows,
            lambda observations: online_q_values(observations),
            lambda observations, unit=unit: unit * target_q_values(observations),  # type: ignore[misc]
        )
        for unit, rows in ((1.0, row), (100.0, scaled))
    ]
    torch.testing.assert_close(losses[0], losses[1])


def test_what_the_log_shows_to_be_better_is_learned() -> None:
    replay = LogReplay(two_way_log(500, np.random.default_rng(1)), 3, 0.9)
    assert greedy_actions(learned(replay, alphas=(0.1,)).candidates[-1].network) == [1]


def test_cloning_and_strong_conservatism_do_what_the_log_mostly_does() -> None:
    replay = LogReplay(two_way_log(500, np.random.default_rng(1)), 3, 0.9)
    for changed in ({"method": "cloning"}, {"alphas": (50.0,)}):
        assert greedy_actions(learned(replay, **changed).candidates[-1].network) == [0]


def test_runs_side_by_side_learn_what_each_learns_alone() -> None:
    replay = LogReplay(two_way_log(200, np.random.default_rng(1)), 3, 0.9)
    together = {each.alpha: each for each in learned(replay, alphas=(0.1, 5.0)).candidates}
    for alpha in (0.1, 5.0):
        alone = learned(replay, alphas=(alpha,)).candidates[-1]
        torch.testing.assert_close(
            first_weights(together[alpha].network), first_weights(alone.network)
        )
    assert not torch.equal(
        first_weights(together[0.1].network), first_weights(together[5.0].network)
    )


def test_the_same_seed_gives_the_same_candidates_and_the_current_network_stays() -> None:
    replay = LogReplay(two_way_log(200, np.random.default_rng(1)), 3, 0.9)
    current, settings = network(), config(elastic_strength=1.0)
    first, second = (
        learn_candidates(current, replay, replay, settings, 1.0, 30.0, rng()).candidates
        for _ in range(2)
    )
    assert [each.updates for each in first] == [80, 160]
    for name, value in first[1].network.state_dict().items():
        assert torch.equal(value, second[1].network.state_dict()[name])
        assert torch.equal(current.state_dict()[name], network().state_dict()[name])
    assert not torch.equal(first_weights(first[0].network), first_weights(first[1].network))


def test_who_plays_on_is_given_the_newest_network_at_each_look() -> None:
    replay = LogReplay(two_way_log(200, np.random.default_rng(1)), 3, 0.9)
    settings = config(check_every_updates=40)
    told: list[Tensor] = []
    found = learn_candidates(
        network(), replay, None, settings, 1.0, 500.0, rng(),
        tell=lambda newest: told.append(first_weights(newest)),
    )  # fmt: skip
    assert len(told) == 4
    for place, candidate in zip((1, 3), found.candidates, strict=True):
        torch.testing.assert_close(told[place], first_weights(candidate.network))
    assert not torch.equal(told[0], told[1])


def test_a_run_whose_q_values_leave_what_rewards_allow_leaves_no_candidate() -> None:
    replay = LogReplay(two_way_log(200, np.random.default_rng(1)), 3, 0.9)
    settings = config(q_limit_factor=1.0, alphas=(0.5, 1.0))
    found = learn_candidates(network(), replay, None, settings, 1.0, 0.01, rng())
    assert found.candidates == []
    assert set(found.diverged) == {0.5, 1.0}
    assert "beyond the limit of 0.01" in found.diverged[0.5]


def test_elastic_weights_move_less() -> None:
    replay = LogReplay(two_way_log(200, np.random.default_rng(1)), 3, 0.9)
    moved = []
    for strength in (0.0, 1000.0):
        last = learned(replay, elastic_strength=strength).candidates[-1]
        moved.append((first_weights(last.network) - first_weights(network())).norm().item())
    assert moved[1] < 0.5 * moved[0]


def test_rehearsal_holds_the_order_of_actions_on_old_states() -> None:
    old = logged_steps(5, rewards=np.zeros(5, np.float32))
    fresh = LogReplay(two_way_log(200, np.random.default_rng(1)), 1, 0.9)
    distances = []
    for strength in (0.0, 100.0):
        changes = {"anchor_strength": strength, "rehearsed_share": 0.5}
        last = learned(fresh, LogReplay(old, 1, 0.9), **changes).candidates[-1]
        found = last.network(torch.from_numpy(old.observations[:5]))
        before = network()(torch.from_numpy(old.observations[:5]))
        gaps = [(each[:, 1] - each[:, 0]) for each in (found, before)]
        distances.append((gaps[0] - gaps[1]).abs().mean().item())
    assert distances[1] < 0.5 * distances[0]


def test_the_highest_lower_bound_is_chosen_and_not_the_last_candidate() -> None:
    candidates = [Candidate(0.5, updates, network()) for updates in (1, 2, 3, 4)]
    chosen = choose(candidates, [1.0, 5.0, 5.0, math.nan])
    assert chosen.candidate.updates == 2
    with pytest.raises(ValueError, match="no candidate has a finite lower bound"):
        choose(candidates, [math.nan] * 4)


def test_distributions_are_refused() -> None:
    with pytest.raises(ValueError, match="single values"):
        OfflineLearner(
            q_network(distribution=Quantiles(size=5)),
            (1.0,),
            Terms("conservative", 1.0, 10.0, 0.01),
            None,
            ALONE,
        )


def first_weights(network: QNetwork) -> Tensor:
    return dict(network.named_parameters())["layers.0.weight"]


def rng() -> np.random.Generator:
    return np.random.default_rng(2)
