from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.training.builders import q_network
from training.network import QNetwork

FRAMES = torch.randint(
    256, (2, 4, 84, 84), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


def pixels_network(convolutions: str, hidden: int, **changes: Any) -> QNetwork:
    return q_network(
        convolutions=convolutions,
        observation_shape=(4, 84, 84),
        hidden_sizes=(hidden,),
        num_actions=6,
        **changes,
    )


def num_parameters(network: QNetwork) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_nature_network_has_the_papers_parameters() -> None:
    # 8 x 8 x 4 x 32, 4 x 4 x 32 x 64, 3 x 3 x 64 x 64, 3136 x 512, 512 x 6, and biases.
    assert num_parameters(pixels_network("nature", 512)) == 1_687_206


def test_the_nature_network_takes_as_many_operations_as_it_says() -> None:
    network = pixels_network("nature", 512)
    with FlopCounterMode(display=False) as counter:
        network(FRAMES[:1])
    assert counter.get_total_flops() == pytest.approx(18.7e6, rel=0.01)


def test_the_impala_network_has_fifteen_convolutions_and_3872_features() -> None:
    network = pixels_network("impala", 256)
    convolutions = [each for each in network.modules() if isinstance(each, torch.nn.Conv2d)]
    assert len(convolutions) == 15
    assert network.state_dict()["layers.0.weight"].shape == (256, 3872)


@pytest.mark.parametrize("convolutions", ["nature", "impala"])
def test_pixels_are_scaled_inside_the_network(convolutions: str) -> None:
    network = pixels_network(convolutions, 16)
    assert network.convolutions is not None
    # Bytes in, and a first layer that sees at most 1.
    seen: list[float] = []
    first = next(each for each in network.modules() if isinstance(each, torch.nn.Conv2d))
    first.register_forward_pre_hook(lambda _, inputs: seen.append(float(inputs[0].max())))
    network(FRAMES)
    assert seen == [1.0]


@pytest.mark.parametrize("convolutions", ["nature", "impala"])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_every_frame_and_every_weight_matters(convolutions: str, layer_norm: bool) -> None:
    network = pixels_network(convolutions, 16, layer_norm=layer_norm)
    before = network(FRAMES)
    for frame in range(4):
        changed = FRAMES.clone()
        changed[:, frame] = 255 - changed[:, frame]
        assert not torch.allclose(network(changed), before, atol=1e-6)
    before.sum().backward()
    assert all(each.grad is not None and each.grad.any() for each in network.parameters())


def test_observations_that_are_no_stacked_frames_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \[depth, height, width\]"):
        q_network(convolutions="nature", observation_shape=(4,))


def test_frames_that_are_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match="frames of 20 x 20 are too small"):
        q_network(convolutions="nature", observation_shape=(4, 20, 20))
