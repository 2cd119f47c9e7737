import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.training.builders import q_network, training_config
from training.config import TrainingConfig
from training.learner import Learner, flatten_parameters
from training.network import QNetwork
from training.optimisers import limited
from training.replay import Batch

OBSERVATIONS = torch.randn(5, 4, generator=torch.Generator().manual_seed(9))


def learner(config: TrainingConfig, **network: Any) -> Learner:
    network_config = q_network(normalise_observations=True, **network).config
    return Learner(network_config, config, torch.Generator().manual_seed(0))


def batch(seed: int, num_actions: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    size = 32
    return Batch(
        observations=torch.randn(size, 4, generator=generator),
        actions=torch.randint(num_actions, (size,), generator=generator),
        rewards=torch.randn(size, generator=generator),
        next_observations=torch.randn(size, 4, generator=generator),
        terminated=torch.rand(size, generator=generator) < 0.3,
        truncated=torch.rand(size, generator=generator) < 0.3,
        steps=torch.ones(size, dtype=torch.uint8),
        weights=torch.ones(size),
    )


def reference_update(
    online: QNetwork, target: QNetwork, optimiser: torch.optim.Optimizer, batch: Batch
) -> None:
    """Double DQN as its papers write it, layer by layer, with torch's own tools."""
    with torch.no_grad():
        next_actions = online(batch.next_observations).argmax(1)
        next_values = target(batch.next_observations)[torch.arange(32), next_actions]
        targets = batch.rewards + 0.99 * next_values * (1.0 - batch.terminated.float())
    q_values = online(batch.observations)[torch.arange(32), batch.actions]
    optimiser.zero_grad()
    nn.SmoothL1Loss()(q_values, targets).backward()
    # The limit is low enough to bind: clipping must be part of what is compared.
    assert nn.utils.clip_grad_norm_(online.parameters(), 0.01) > 0.01
    optimiser.step()


@pytest.mark.parametrize("optimiser", ["adam", "rmsprop"])
def test_updates_equal_those_of_plain_torch(tmp_path: Path, optimiser: str) -> None:
    config = training_config(
        tmp_path, optimiser=optimiser, gradient_norm_limit=0.01, learning_rate=0.02
    )
    ours = learner(config)
    online, target = copy.deepcopy(ours.online_network), copy.deepcopy(ours.target_network)
    for parameter in online.parameters():
        parameter.grad = None
    plain: torch.optim.Optimizer = (
        torch.optim.Adam(online.parameters(), 0.02, eps=1.5e-4)
        if optimiser == "adam"
        else torch.optim.RMSprop(online.parameters(), 0.02, alpha=0.95, eps=1.5e-4, centered=True)
    )
    for seed in range(20):
        ours.update(batch(seed))
        reference_update(online, target, plain, batch(seed))
    torch.testing.assert_close(ours.online_network(OBSERVATIONS), online(OBSERVATIONS))


def test_frames_are_learned_from_as_the_network_sees_them(tmp_path: Path) -> None:
    config = training_config(
        tmp_path, convolutions="nature", normalise_observations=False, double=False
    )
    pixels = q_network(observation_shape=(4, 84, 84), convolutions="nature", hidden_sizes=(16,))
    learns = Learner(pixels.config, config, torch.Generator().manual_seed(0))
    # Each row and column, and each frame of a stack, is as bright as no other.
    planes, rows, columns = torch.meshgrid(
        torch.arange(4), torch.arange(84), torch.arange(84), indexing="ij"
    )
    frames = torch.stack([planes * 60 + rows, planes * 60 + columns]).to(torch.uint8)
    two = batch(0)._replace(
        observations=frames, next_observations=frames.flip(0), actions=torch.tensor([2, 0])
    )
    two = two._replace(
        **{
            name: getattr(two, name)[:2]
            for name in ("rewards", "terminated", "truncated", "steps", "weights")
        }
    )
    with torch.no_grad():
        q_values = learns.online_network(frames)[torch.arange(2), two.actions]
        following = learns.target_network(frames.flip(0)).amax(1)
    targets = two.rewards + 0.99 * following * ~two.terminated
    figures = learns.update(two)
    torch.testing.assert_close(figures.q_values, q_values)
    torch.testing.assert_close(figures.errors, (targets - q_values).abs())


def test_q_learning_without_double_is_another_rule(tmp_path: Path) -> None:
    learners = [
        learner(training_config(tmp_path, double=double, learning_rate=0.02))
        for double in (True, False)
    ]
    for each in learners:
        for seed in range(20):
            each.update(batch(seed))
    first, second = (each.online_network(OBSERVATIONS) for each in learners)
    assert not torch.allclose(first, second, atol=1e-3)


def test_the_target_network_stays_until_it_is_synced(tmp_path: Path) -> None:
    learns = learner(training_config(tmp_path, target_update="hard"))
    before = learns.target_network(OBSERVATIONS)
    learns.update(batch(0))
    torch.testing.assert_close(learns.target_network(OBSERVATIONS), before, rtol=0, atol=0)
    learns.sync_target()
    torch.testing.assert_close(
        learns.target_network(OBSERVATIONS), learns.online_network(OBSERVATIONS), rtol=0, atol=0
    )
    assert not torch.equal(learns.target_network(OBSERVATIONS), before)


def test_a_soft_update_blends_in_the_declared_share_of_the_online_network(tmp_path: Path) -> None:
    learns = learner(training_config(tmp_path, target_update="soft", target_blend=0.25))
    name = "layers.0.bias"
    before = learns.target_network.state_dict()[name].clone()
    learns.update(batch(0))
    expected = 0.75 * before + 0.25 * learns.online_network.state_dict()[name]
    torch.testing.assert_close(learns.target_network.state_dict()[name], expected)


def test_both_networks_see_the_same_normalisation(tmp_path: Path) -> None:
    learns = learner(training_config(tmp_path))
    assert learns.online_network.normalisation is not None
    learns.online_network.normalisation.mean.fill_(3.0)
    learns.sync_target()
    torch.testing.assert_close(
        learns.target_network(OBSERVATIONS), learns.online_network(OBSERVATIONS)
    )


@pytest.mark.parametrize("noise_scale", [None, 0.5])
def test_a_restored_learner_goes_on_bit_for_bit(tmp_path: Path, noise_scale: float | None) -> None:
    saved = learner(training_config(tmp_path), noise_scale=noise_scale)
    restored = learner(training_config(tmp_path, seed=99), noise_scale=noise_scale)
    saved.update(batch(0))
    restored.load_tensors({name: tensor.clone() for name, tensor in saved.tensors().items()})
    for each in (saved, restored):
        each.update(batch(1))
    assert restored.num_updates == 2
    assert torch.equal(saved.online_network(OBSERVATIONS), restored.online_network(OBSERVATIONS))


def test_a_loss_counts_as_much_as_its_weight_says(tmp_path: Path) -> None:
    weighted, alone = (learner(training_config(tmp_path)) for _ in range(2))
    drawn = batch(0)
    weights = torch.zeros(32)
    weights[3] = 32.0
    weighted.update(drawn._replace(weights=weights))
    alone.update(Batch(*(column[3:4] for column in drawn)))
    torch.testing.assert_close(
        weighted.online_network(OBSERVATIONS), alone.online_network(OBSERVATIONS)
    )


def test_each_update_of_a_noisy_learner_has_new_noise_and_each_network_its_own(
    tmp_path: Path,
) -> None:
    learns = learner(training_config(tmp_path, learning_rate=1e-30), noise_scale=0.5)
    seen = []
    for _ in range(2):
        learns.update(batch(0))
        seen += [learns.online_network(OBSERVATIONS), learns.target_network(OBSERVATIONS)]
    for first, second in pairwise(seen):
        assert not torch.allclose(first, second, atol=1e-4)


def test_flattening_changes_no_output_and_writes_through() -> None:
    network = q_network()
    before = network(OBSERVATIONS)
    vector = flatten_parameters(network)
    assert vector.numel() == sum(parameter.numel() for parameter in network.parameters())
    torch.testing.assert_close(network(OBSERVATIONS), before, rtol=0, atol=0)
    with torch.no_grad():
        vector.zero_()
    assert not network(OBSERVATIONS).any()


def test_only_a_gradient_beyond_the_limit_is_scaled_down() -> None:
    long, short = torch.tensor([3.0, 4.0]), torch.tensor([0.3, 0.4])
    torch.testing.assert_close(limited(long, 1.0), torch.tensor([0.6, 0.8]))
    torch.testing.assert_close(limited(short, 1.0), torch.tensor([0.3, 0.4]))
