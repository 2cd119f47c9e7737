from functools import cache

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from contract.declaration import ObservationSpec
from exporter.graph import ServingGraph, export_graph
from exporter.opset import OPSET, read_opset
from service.inference.policy import open_session
from service.inference.proof import inspect_model
from tests.exporter.checkpoints import network, observations

SPEC = ObservationSpec(shape=(4,))


@cache
def plain() -> tuple[ServingGraph, bytes]:
    graph = ServingGraph(network(), masked=False)
    return graph, export_graph(graph, SPEC)


@cache
def masked() -> tuple[ServingGraph, bytes]:
    graph = ServingGraph(network(num_actions=3), masked=True)
    return graph, export_graph(graph, SPEC)


def session(model: bytes) -> ort.InferenceSession:
    return open_session(model)


def test_normalisation_is_inside_the_graph() -> None:
    graph, model = plain()
    raw = observations(8)
    (q_values,) = session(model).run(["q_values"], {"observations": raw})
    with torch.no_grad():
        expected = graph.network(torch.from_numpy(raw)).numpy()
    np.testing.assert_allclose(q_values, expected, atol=1e-5)
    without = network(normalise_observations=False)
    without.load_state_dict(graph.network.state_dict(), strict=False)
    with torch.no_grad():
        assert np.abs(q_values - without(torch.from_numpy(raw)).numpy()).max() > 0.1


@pytest.mark.parametrize("rows", [1, 2, 7, 64, 1024])
def test_every_batch_size_gets_as_many_answers(rows: int) -> None:
    actions, q_values, features = session(plain()[1]).run(
        ["actions", "q_values", "features"], {"observations": observations(rows)}
    )
    assert (actions.shape, q_values.shape, features.shape) == ((rows,), (rows, 2), (rows, 64))
    assert (actions.dtype, q_values.dtype, features.dtype) == (np.int64, np.float32, np.float32)


def test_an_illegal_action_is_never_chosen_though_it_has_the_largest_q_value() -> None:
    raw = observations(64)
    model = session(masked()[1])
    everything = np.ones((64, 3), dtype=np.bool_)
    best, q_values = model.run(
        ["actions", "q_values"], {"observations": raw, "action_mask": everything}
    )
    masks = everything.copy()
    masks[np.arange(64), best] = False
    chosen, still = model.run(["actions", "q_values"], {"observations": raw, "action_mask": masks})
    np.testing.assert_array_equal(chosen, np.argsort(q_values, axis=1)[:, 1])
    np.testing.assert_array_equal(still, q_values)


def test_a_wide_penultimate_layer_is_projected_so_that_distances_stay() -> None:
    graph, model = plain()
    raw = observations(200)
    (features,) = session(model).run(["features"], {"observations": raw})
    with torch.no_grad():
        penultimate = graph.network.features(torch.from_numpy(raw)).numpy()
    assert penultimate.shape[1] == 96
    ratios = np.linalg.norm(features[1:] - features[:-1], axis=1) / np.linalg.norm(
        penultimate[1:] - penultimate[:-1], axis=1
    )
    assert 0.9 < ratios.mean() < 1.1  # The first 64 columns alone give 0.8.


def test_a_narrow_penultimate_layer_is_the_features_itself() -> None:
    narrow = network(hidden_sizes=(24,))
    graph = ServingGraph(narrow, masked=False)
    raw = torch.from_numpy(observations(3))
    with torch.no_grad():
        torch.testing.assert_close(graph(raw)[2], narrow.features(raw), rtol=0, atol=0)
    assert graph.num_features == 24


@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_the_graph_takes_observations_in_the_dtype_of_the_spec(dtype: str) -> None:
    spec = ObservationSpec.model_validate({"shape": (2, 3), "dtype": dtype})
    graph = ServingGraph(network(observation_shape=(2, 3), dueling=True), masked=False)
    raw = np.arange(42).reshape(7, 2, 3).astype(spec.numpy_dtype)
    (q_values,) = session(export_graph(graph, spec)).run(["q_values"], {"observations": raw})
    np.testing.assert_allclose(q_values, graph.decide(raw).q_values, atol=1e-4)


def test_one_graph_exported_twice_gives_the_same_bytes() -> None:
    graph, model = plain()
    assert export_graph(graph, SPEC) == model


def test_a_server_admits_the_graph_with_and_without_a_mask() -> None:
    inspect_model(plain()[1])
    inspect_model(masked()[1])


def test_the_opset_is_the_one_asked_for() -> None:
    assert read_opset(onnx.load_model_from_string(plain()[1])) == OPSET


def test_nothing_in_the_file_names_the_source_it_came_from() -> None:
    model = masked()[1]
    assert not [text for text in (b".py", b"stack_trace", b"training.network") if text in model]
