"""Whatever network training can make, the exported graph answers as it does."""

from typing import Any

import numpy as np
import pytest

from contract.declaration import ObservationSpec
from exporter.graph import ServingGraph, export_graph
from exporter.verify import PARITY_BATCHES, check_parity
from service.inference.policy import Decided, open_session
from service.inference.proof import inspect_model
from tests.exporter.checkpoints import network

CATEGORICAL = {"kind": "categorical", "minimum": -5.0, "maximum": 20.0, "size": 21}


def assert_parity(made: Any, spec: ObservationSpec, raw: Any) -> None:
    graph = ServingGraph(made, masked=False)
    model = export_graph(graph, spec)
    inspect_model(model)
    session = open_session(model)

    def served(observations: Any, masks: Any) -> Decided:
        return Decided(*session.run(["actions", "q_values"], {"observations": observations}))

    parity = check_parity(graph.decide, served, raw)
    assert parity.batches == PARITY_BATCHES


@pytest.mark.parametrize(
    "changes",
    [
        {"distribution": CATEGORICAL, "noise_scale": 0.5, "dueling": True, "layer_norm": True},
        {"distribution": {"kind": "quantiles", "size": 9}},
    ],
    ids=["rainbow", "quantiles"],
)
def test_small_networks_of_every_kind_export_with_their_mean_values(
    changes: dict[str, Any],
) -> None:
    raw = np.random.default_rng(0).normal(0.0, 1.0, (128, 4)).astype(np.float32)
    made = network(hidden_sizes=(16, 24), **changes)
    assert_parity(made, ObservationSpec(shape=(4,)), raw)


@pytest.mark.slow
@pytest.mark.parametrize("convolutions", ["nature", "impala"])
def test_convolutions_export_with_bytes_as_input(convolutions: str) -> None:
    raw = np.random.default_rng(0).integers(256, size=(64, 4, 84, 84)).astype(np.uint8)
    spec = ObservationSpec.model_validate(
        {"shape": (4, 84, 84), "dtype": "uint8", "frame_stack": 4, "low": 0.0, "high": 255.0}
    )
    made = network(
        convolutions=convolutions,
        observation_shape=(4, 84, 84),
        hidden_sizes=(32,),
        num_actions=6,
        normalise_observations=False,
        layer_norm=True,
    )
    assert_parity(made, spec, raw)
