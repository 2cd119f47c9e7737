import pytest
import torch

from tests.training.builders import q_network
from training.heads import dueling_outputs
from training.network import NORMALISED_LIMIT, NetworkConfig, QNetwork


def test_dueling_centres_advantages_on_their_mean_and_not_their_maximum() -> None:
    q_values = dueling_outputs(torch.tensor([[[10.0]]]), torch.tensor([[[1.0], [2.0], [6.0]]]))
    torch.testing.assert_close(q_values, torch.tensor([[[8.0], [9.0], [13.0]]]))


def test_a_constant_added_to_all_advantages_changes_no_q_value() -> None:
    network = q_network(dueling=True)
    observations = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    before = network(observations)
    with torch.no_grad():
        network.state_dict()["head.advantages.bias"].add_(7.0)
    torch.testing.assert_close(network(observations), before)
    with torch.no_grad():
        network.state_dict()["head.value.bias"].add_(7.0)
    torch.testing.assert_close(network(observations), before + 7.0)


@pytest.mark.parametrize("dueling", [False, True])
def test_the_head_of_the_features_is_the_whole_network(dueling: bool) -> None:
    network = q_network(dueling=dueling)
    observations = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    features = network.features(observations)
    assert features.shape == (7, network.feature_size)
    torch.testing.assert_close(network.head(features), network(observations))


def test_raw_observations_are_shifted_then_scaled_inside_the_network() -> None:
    observations = torch.tensor([[1.0, 3.0, 2.5, 0.1]])
    by_hand = torch.tensor([[(1.0 - 0.5) * 2.0, (3.0 + 1.0) * 0.5, 0.5, 4.0]])
    with_normalisation = q_network(normalise_observations=True)
    without = q_network(normalise_observations=False)
    torch.testing.assert_close(with_normalisation(observations), without(by_hand))


def test_a_freak_observation_is_clamped_after_normalisation() -> None:
    network = q_network(normalise_observations=True)
    # 1e9 and 2.0 + limit meet the same clamp, one of them exactly.
    freak = network(torch.tensor([[0.5, -1.0, 1e9, 0.0]]))
    edge = network(torch.tensor([[0.5, -1.0, 2.0 + NORMALISED_LIMIT, 0.0]]))
    torch.testing.assert_close(freak, edge)


def test_a_network_is_rebuilt_from_its_configuration_and_weights() -> None:
    network = q_network(dueling=True, normalise_observations=True)
    config = NetworkConfig.model_validate_json(network.config.model_dump_json())
    rebuilt = QNetwork(config)
    rebuilt.load_state_dict(network.state_dict())
    observations = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rebuilt(observations), network(observations), rtol=0, atol=0)


def test_whole_numbers_are_taken_as_they_are() -> None:
    network = q_network()
    pixels = torch.tensor([[0, 255, 7, 1]], dtype=torch.uint8)
    torch.testing.assert_close(network(pixels), network(pixels.to(torch.float32)))


@pytest.mark.parametrize("dueling", [False, True])
def test_the_batch_axis_stays_free_in_an_exported_graph(dueling: bool) -> None:
    network = q_network(dueling=dueling, normalise_observations=True)
    batch = torch.export.Dim("batch", min=1, max=1024)
    observations = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    graph = torch.export.export(network, (observations[:2],), dynamic_shapes=({0: batch},))
    for rows in (1, 7):
        torch.testing.assert_close(
            graph.module()(observations[:rows]), network(observations[:rows])
        )
