"""Policies that servers are measured with, written as bundles: untrained, for speed alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.serving.graphs import (
    FRAMES_ACTIONS,
    FRAMES_FEATURES,
    FRAMES_SHAPE,
    SLOW_ACTIONS,
    SLOW_OBSERVATION,
    nature_graph,
)
from contract.bundle import Golden, write_bundle
from contract.declaration import (
    ActionSpec,
    ObservationSpec,
    PolicyDeclaration,
    write_declaration,
)
from contract.heuristics import ConstantHeuristic
from contract.ledger import LEDGER_FILE, Entry, FileLedger, append_latest
from contract.manifest import FEATURES, OBSERVATIONS, Q_VALUES, Lineage, Manifest
from exporter.graph import ServingGraph, export_graph
from exporter.opset import OPSET
from service.inference.policy import open_session
from training.network import NetworkConfig, QNetwork, initialise

MLP_OBSERVATION = 8
MLP_ACTIONS = 4


def write_mlp(repository: Path) -> bytes:
    """Two versions of 8 -> 128 -> 128 -> dueling; returns the ONNX bytes of the first."""
    observation = ObservationSpec(shape=(MLP_OBSERVATION,))
    models = [_mlp(observation, seed) for seed in (0, 1)]
    num_features = models[0][1]
    versions = [model for model, _ in models]
    _write(repository / "mlp", observation, MLP_ACTIONS, num_features, versions)
    return versions[0]


def write_cnn(repository: Path) -> bytes:
    """Two versions of the Nature network over raw frames; returns the ONNX bytes of the first."""
    versions = [nature_graph(np.random.default_rng(seed)) for seed in (0, 1)]
    observation = ObservationSpec(shape=FRAMES_SHAPE, dtype="uint8")
    _write(repository / "cnn", observation, FRAMES_ACTIONS, FRAMES_FEATURES, versions)
    return versions[0]


def write_slow(repository: Path, model: bytes) -> None:
    """One version of a graph that `graphs.slow_graph` made."""
    observation = ObservationSpec(shape=(SLOW_OBSERVATION,))
    _write(repository / "slow", observation, SLOW_ACTIONS, FRAMES_FEATURES, [model])


def observations_of(model: str, rows: int) -> npt.NDArray[np.float32] | npt.NDArray[np.uint8]:
    """Observations to ask a server with, the same in every run."""
    rng = np.random.default_rng(rows)
    if model == "cnn":
        return rng.integers(0, 256, (rows, *FRAMES_SHAPE), dtype=np.uint8)
    # A JSON number of three digits is what a sensor sends; float32's own digits would be 20.
    return rng.uniform(-1, 1, (rows, MLP_OBSERVATION)).round(3).astype(np.float32)


def _mlp(observation: ObservationSpec, seed: int) -> tuple[bytes, int]:
    network = QNetwork(
        NetworkConfig(
            observation_shape=observation.shape,
            num_actions=MLP_ACTIONS,
            hidden_sizes=(128, 128),
            dueling=True,
            normalise_observations=True,
        )
    )
    initialise(network, torch.Generator().manual_seed(seed))
    graph = ServingGraph(network, masked=False)
    return export_graph(graph, observation), graph.num_features


def _write(
    folder: Path,
    observation: ObservationSpec,
    num_actions: int,
    num_features: int,
    versions: Sequence[bytes],
) -> None:
    """Write a policy with its versions, the first promoted."""
    declaration = PolicyDeclaration(
        observation=observation,
        actions=ActionSpec(count=num_actions),
        heuristic=ConstantHeuristic(),
    )
    folder.mkdir(parents=True)
    write_declaration(folder, declaration)
    rng = np.random.default_rng(0)
    drawn = rng.uniform(0, 255 if observation.dtype == "uint8" else 1, (8, *observation.shape))
    samples = drawn.astype(observation.numpy_dtype)
    for version, model in enumerate(versions, 1):
        (q_values,) = open_session(model).run([Q_VALUES], {OBSERVATIONS: samples})
        manifest = Manifest(
            policy=folder.name,
            version=version,
            observation=observation,
            actions=declaration.actions,
            outputs=("actions", "q_values", FEATURES),
            num_features=num_features,
            opset=OPSET,
            discount=0.99,
            heuristic_behaviour=declaration.heuristic.behaviour,
            lineage=Lineage(created_at="2026-01-01T00:00:00+00:00", source="benchmark"),
            sha256={},
        )
        write_bundle(
            folder / str(version),
            manifest,
            model=model,
            golden=Golden(samples, q_values),
            card=f"# {folder.name} v{version}\n\nUntrained: for measuring speed.\n",
        )
    first = Entry(
        action="promote", policy=folder.name, version=1, who="benchmark", why="to measure it"
    )
    append_latest(FileLedger(folder.parent / LEDGER_FILE), first)
