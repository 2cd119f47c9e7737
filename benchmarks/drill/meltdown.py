"""A real run whose Q-values explode, and what stands between it and the traffic.

Rewards of 100 a step, unclipped, a target network that is copied at every round and gradients that
nothing limits: training stops such a run by itself. Told not to stop, it ends with Q-values far
beyond what there is to gain, and plays no worse for it; then the exporter refuses it. Whoever goes
round the exporter too, and puts the network into a bundle with the papers of the version before,
ships it.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx

from benchmarks.drill.bundles import DECLARATION, EXPLODED, POLICY, WELL, make_manifest
from contract.bundle import Golden, read_bundle, write_bundle
from exporter.graph import ServingGraph, export_graph
from exporter.opset import read_opset
from training.checkpoint import read_checkpoint

_TRAINING: Final = (
    *("--environment-id", "CartPole-v1", "--reward-scale", "100", "--no-double", "--loss", "mse"),
    *("--gradient-norm-limit", "1e9", "--target-sync-steps", "8", "--learning-rate", "0.01"),
    *("--hidden-sizes", "[64, 64]", "--total-steps", "10000", "--evaluation-every-steps", "5000"),
    *("--evaluation-episodes", "2", "--compile-updates", "never", "--no-tensorboard"),
)
_UNSTOPPED: Final = ("--q-limit-factor", "1e12")
_LONGEST_SECONDS: Final = 600.0


class Refusals(NamedTuple):
    """What was said on the way to the traffic."""

    training: str
    """Of the run, before it was told to go on."""
    exporter: str


class NotRefusedError(Exception):
    """A step that should have stopped the meltdown let it through."""


def melt_down(folder: Path, repository: Path) -> Refusals:
    """Train until Q explodes and write what comes of it as a version, against all advice.

    Raises:
        NotRefusedError: Training or the exporter did not object.
    """
    stopped = _refusal("training", *_TRAINING, "--out", str(folder / "stopped"))
    run = folder / "unstopped"
    _call("training", *_TRAINING, *_UNSTOPPED, "--out", str(run))
    refused = _refusal(
        "exporter", str(run / "last"), "--policy", POLICY, "--repository", str(folder / "exported")
    )
    _write_by_hand(run / "last", repository / POLICY)
    return Refusals(stopped, refused)


def _write_by_hand(checkpoint: Path, policy_directory: Path) -> None:
    well = read_bundle(policy_directory / str(WELL))
    graph = ServingGraph(read_checkpoint(checkpoint).network, masked=False)
    model = export_graph(graph, DECLARATION.observation)
    profile = well.manifest.profile
    assert profile is not None, "the version that is well has one"
    promised = make_manifest(EXPLODED, profile).model_copy(
        update={
            "opset": read_opset(onnx.load_model_from_string(model)),
            "num_features": graph.num_features,
        }
    )
    observations: npt.NDArray[Any] = well.golden.observations.astype(np.float32)
    write_bundle(
        policy_directory / str(EXPLODED),
        promised,
        model=model,
        golden=Golden(observations, graph.decide(observations).q_values),
        card=f"# {POLICY} v{EXPLODED}\n",
    )


def _refusal(module: str, *arguments: str) -> str:
    """The last line that a program says as it ends with 1."""
    done = _call(module, *arguments)
    if done.returncode != 1:
        raise NotRefusedError(f"{module} ended with {done.returncode}: {done.stderr[-500:]}")
    said = re.sub(r"\s+", " ", done.stderr).strip()
    return said[max(said.rfind("stopped:"), said.rfind("error:"), 0) :]


def _call(module: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=_LONGEST_SECONDS,
    )
