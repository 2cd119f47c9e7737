"""The policies that servers are measured with: untrained, since speed does not depend on skill."""

from pathlib import Path

import numpy as np
import torch

from contract.bundle import Golden, write_bundle
from contract.declaration import (
    ActionSpec,
    ObservationSpec,
    PolicyDeclaration,
    write_declaration,
)
from contract.heuristics import ConstantHeuristic
from contract.ledger import LEDGER_FILE, Entry, FileLedger, append_latest
from contract.manifest import FEATURES, Lineage, Manifest
from exporter.graph import OPSET, ServingGraph, export_graph
from training.network import NetworkConfig, QNetwork

MLP_OBSERVATION = (0.1, 0.2, 0.3, 0.4, 0.5, -0.6, 0.7, 0.8)


def write_mlp(repository: Path, name: str = "mlp") -> bytes:
    """Write 8 -> 128 -> 128 -> dueling of 4 actions, promoted; returns the ONNX bytes."""
    torch.manual_seed(0)
    network = QNetwork(
        NetworkConfig(
            observation_shape=(len(MLP_OBSERVATION),),
            num_actions=4,
            hidden_sizes=(128, 128),
            dueling=True,
            normalise_observations=True,
        )
    )
    observation = ObservationSpec(shape=(len(MLP_OBSERVATION),))
    declaration = PolicyDeclaration(
        observation=observation, actions=ActionSpec(count=4), heuristic=ConstantHeuristic()
    )
    graph = ServingGraph(network, masked=False)
    model = export_graph(graph, observation)
    samples = np.random.default_rng(0).standard_normal((8, *observation.shape), dtype=np.float32)
    manifest = Manifest(
        policy=name,
        version=1,
        observation=observation,
        actions=declaration.actions,
        outputs=("actions", "q_values", FEATURES),
        num_features=graph.num_features,
        opset=OPSET,
        discount=0.99,
        heuristic_behaviour=declaration.heuristic.behaviour,
        lineage=Lineage(created_at="2026-01-01T00:00:00+00:00", source="benchmark"),
        sha256={},
    )
    (repository / name).mkdir(parents=True)
    write_declaration(repository / name, declaration)
    write_bundle(
        repository / name / "1",
        manifest,
        model=model,
        golden=Golden(samples, graph.decide(samples).q_values),
        card=f"# {name} v1\n\nUntrained: for measuring speed.\n",
    )
    first = Entry(action="promote", policy=name, version=1, who="benchmark", why="to measure it")
    append_latest(FileLedger(repository / LEDGER_FILE), first)
    return model
