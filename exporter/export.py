"""From a checkpoint to the next version of a policy, in one call."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import torch
from pydantic import ValidationError
from pydantic_settings import CliApp
from rich.console import Console

from contract.bundle import BundleError, Golden, versions_in
from contract.declaration import DeclarationError
from contract.manifest import Parity
from exporter.card import render_card
from exporter.config import ExportConfig
from exporter.declare import choose_declaration
from exporter.graph import ServingGraph, export_graph
from exporter.manifest import check_divergence, largest_possible_q, make_manifest, q_bound
from exporter.opset import read_opset
from exporter.profile import collect_greedy, heuristic_returns, make_profile
from exporter.publish import publish
from exporter.triton import triton_config
from exporter.verify import PARITY_BATCHES, ParityError, check_parity
from service.inference.policy import Policy, open_session
from training.checkpoint import CheckpointError, read_checkpoint

Say = Callable[[str], None]
Observations = npt.NDArray[Any]

GOLDEN_ROWS: Final = 16
PARITY_ROWS: Final = 7 * max(PARITY_BATCHES)
"""Fills the batches of every size to the last row."""


def export(config: ExportConfig, say: Say = lambda _: None) -> Path:
    """Make a checkpoint the next version of a policy; returns the version's folder.

    Nothing is left in the repository unless everything was measured and proven.

    Args:
        config: What to export, and where to.
        say: Told what is being done, a few words each time.

    Raises:
        CheckpointError: There is no checkpoint.
        DeclarationError: The policy is not declared, or declared otherwise.
        ParityError: The graph does not answer as the network does.
        BundleError: The bundle may not serve.
        OSError: The repository cannot be written.
    """
    checkpoint = read_checkpoint(config.checkpoint)
    metadata = checkpoint.metadata
    policy_directory = config.repository / config.policy
    declaration = choose_declaration(
        metadata, policy_directory, config.declaration, config.allowed_heuristics
    )

    say("exporting the graph")
    graph = ServingGraph(checkpoint.network, masked=declaration.actions.masked)
    model = export_graph(graph, declaration.observation)
    proto = onnx.load_model_from_string(model)
    manifest = make_manifest(
        config,
        metadata,
        declaration,
        version_number=max(versions_in(policy_directory), default=0) + 1,
        opset=read_opset(proto),
        num_features=graph.num_features,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )

    say(f"playing greedy episodes of {metadata.environment_id}")
    rollout = collect_greedy(
        checkpoint, config.profile_episodes, config.profile_observations, config.seed
    )
    say("holding the graph against the network")
    served = Policy(manifest, open_session(model))
    parity = _check_parity(graph, served, rollout.observations, config.seed)
    possible_q = largest_possible_q(metadata)
    check_divergence(possible_q, rollout.q_values)
    profile = make_profile(rollout, graph, metadata.statistics.absolute_q_values.maximum)

    say("playing the heuristic")
    floor = heuristic_returns(
        declaration.heuristic,
        metadata.environment_id,
        metadata.num_actions,
        config.floor_episodes,
        config.seed,
    ).mean()
    manifest = manifest.model_copy(
        update={
            "q_bound": q_bound(possible_q, profile.absolute_q_maximum),
            "parity": parity,
            "profile": profile,
            "floor": float(floor),
        }
    )

    say("writing and proving the bundle")
    golden_observations = _spread(rollout.observations, GOLDEN_ROWS)
    return publish(
        policy_directory,
        declaration,
        manifest,
        model=model,
        golden=Golden(golden_observations, graph.decide(golden_observations).q_values),
        card=render_card(manifest, declaration, profile, parity, possible_q),
        triton_config=triton_config(config.policy, proto),
    )


def main(arguments: Sequence[str]) -> int:
    """Run `dqn export`. Returns the exit status: 2 for wrong usage, 1 where the export failed."""
    torch.set_num_threads(1)
    console = Console(stderr=True)
    try:
        config = CliApp.run(ExportConfig, cli_args=list(arguments))
    except ValidationError as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 2
    try:
        with console.status("reading the checkpoint") as status:
            directory = export(config, status.update)
    except (BundleError, CheckpointError, DeclarationError, ParityError, OSError) as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 1
    Console().print(f"exported {config.policy} to {directory}", highlight=False, soft_wrap=True)
    return 0


def _check_parity(
    graph: ServingGraph, served: Policy, observations: Observations, seed: int
) -> Parity:
    rows = _spread(observations, PARITY_ROWS)
    masks = None
    if graph.masked:
        rng = np.random.default_rng(seed)
        masks = rng.random((len(rows), served.manifest.actions.count)) < 0.5
        masks[np.arange(len(rows)), rng.integers(masks.shape[1], size=len(rows))] = True
    return check_parity(graph.decide, served.decide, rows, masks)


def _spread(observations: Observations, rows: int) -> Observations:
    """Some observations, from the first to the last at equal distances, [rows, *shape]."""
    return observations[np.linspace(0, len(observations) - 1, rows).astype(np.int64)]
