import numpy as np
import pytest
import torch
from torch.nn import functional

from training.noisy import NoisyLinear, draw_noise

FEATURES = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def layer() -> NoisyLinear:
    made = NoisyLinear(3, 2, noise_scale=0.5)
    generator = torch.Generator().manual_seed(1)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return made


def test_in_evaluation_a_noisy_layer_is_its_means() -> None:
    made = layer()
    draw_noise(made, torch.Generator().manual_seed(0))
    noisy = made(FEATURES)
    expected = functional.linear(FEATURES, made.weight, made.bias)
    torch.testing.assert_close(made.eval()(FEATURES), expected)
    assert not torch.allclose(noisy, expected, atol=0.1)


def test_noise_of_a_weight_is_that_of_its_input_times_that_of_its_output() -> None:
    made = layer()
    made.input_noise.copy_(torch.tensor([1.0, 10.0, 100.0]))
    made.output_noise.copy_(torch.tensor([2.0, 3.0]))
    products = torch.tensor([[2.0, 20.0, 200.0], [3.0, 30.0, 300.0]])
    weight = made.weight + made.weight_scale * products
    bias = made.bias + made.bias_scale * torch.tensor([2.0, 3.0])
    torch.testing.assert_close(made(FEATURES), functional.linear(FEATURES, weight, bias))


def test_noise_is_the_signed_root_of_a_normal_variable() -> None:
    made = NoisyLinear(200_000, 2, noise_scale=0.5)
    draw_noise(made, torch.Generator().manual_seed(0))
    squares = made.input_noise * made.input_noise.abs()
    assert float(squares.mean()) == pytest.approx(0.0, abs=0.02)
    assert float(squares.std()) == pytest.approx(1.0, abs=0.02)


def test_noise_follows_its_generator_alone() -> None:
    first, second = layer(), layer()
    torch.manual_seed(5)
    draw_noise(first, torch.Generator().manual_seed(7))
    torch.manual_seed(6)
    draw_noise(second, torch.Generator().manual_seed(7))
    assert torch.equal(first(FEATURES), second(FEATURES))
    draw_noise(second, torch.Generator().manual_seed(8))
    assert not torch.equal(first(FEATURES), second(FEATURES))


def test_noise_is_no_part_of_a_checkpoint() -> None:
    assert set(layer().state_dict()) == {"weight", "bias", "weight_scale", "bias_scale"}
    assert not np.any(layer().input_noise.numpy())
