"""Checkpoints: what training leaves on disk, for serving and for going on.

A checkpoint is a folder:

    network.safetensors   weights and fitted normalisation of the online network
    checkpoint.json       `CheckpointMetadata`: how the network came to be and what it expects
    state/                everything else a resumed run needs; only where a run may go on

Tensors are safetensors and the rest is JSON: nothing that is read can run code.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, JsonValue, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from contract.declaration import ObservationSpec, Record
from contract.files import sync_directory, write_synced
from contract.manifest import RewardTransform
from training.moments import Moments
from training.network import NetworkConfig, QNetwork

BEST = "best"
"""Checkpoint of a run's best evaluation."""

LAST = "last"
"""Checkpoint that a run goes on from."""

NETWORK_FILE = "network.safetensors"
METADATA_FILE = "checkpoint.json"
STATE_FOLDER = "state"

_STATE_TENSORS_FILE = "tensors.safetensors"
_STATE_VALUES_FILE = "values.json"


class CheckpointError(Exception):
    """A checkpoint is missing, torn or not of this format."""


class TrainingStatistics(Record):
    """What training saw, behaviour policy and exploration included."""

    returns: Moments
    """Undiscounted episode returns in the environment's own reward."""

    lengths: Moments
    """Steps of the episodes."""

    rewards: Moments
    """The environment's own rewards, before the transform."""

    absolute_q_values: Moments
    """|Q| over all actions of the observations that were acted on."""


class CheckpointMetadata(Record):
    """The content of `checkpoint.json`."""

    format_version: Literal[1] = 1
    environment_id: str
    observation: ObservationSpec
    num_actions: int
    network: NetworkConfig
    discount: float
    """Per step, not raised to `n_step`."""

    n_step: int
    reward_transform: RewardTransform
    statistics: TrainingStatistics
    evaluation_return: float | None
    """Mean return of the evaluation that this checkpoint was written after."""

    config: dict[str, JsonValue]
    """The whole `TrainingConfig`."""

    seed: int
    steps: int = Field(ge=0)
    updates: int = Field(ge=0)
    episodes: int = Field(ge=0)
    wall_seconds: float
    cpu_seconds: float
    created_at: str
    """ISO 8601 in UTC."""

    versions: dict[str, str]
    git_revision: str | None


class RunState(NamedTuple):
    """What a run needs beside its online network to go on as if it had never stopped."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]
    """Anything that JSON can say."""


class Checkpoint(NamedTuple):
    """A checkpoint as read: the network is built, loaded and in evaluation mode."""

    metadata: CheckpointMetadata
    network: QNetwork


def write_checkpoint(
    folder: Path, metadata: CheckpointMetadata, network: QNetwork, state: RunState | None = None
) -> None:
    """Write a checkpoint, whole or not at all, in place of the one that may be there."""
    with replacing_folder(folder) as unfinished:
        write_synced(unfinished / NETWORK_FILE, _serialised(network.state_dict()))
        write_synced(unfinished / METADATA_FILE, metadata.model_dump_json(indent=2).encode())
        if state is not None:
            state_folder = unfinished / STATE_FOLDER
            state_folder.mkdir()
            write_synced(state_folder / _STATE_TENSORS_FILE, _serialised(state.tensors))
            write_synced(state_folder / _STATE_VALUES_FILE, json.dumps(state.values).encode())
            sync_directory(state_folder)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read metadata and network.

    Raises:
        CheckpointError: There is no whole checkpoint of this format at `folder`.
    """
    folder = _whole_folder(folder)
    try:
        metadata = CheckpointMetadata.model_validate_json((folder / METADATA_FILE).read_bytes())
        network = QNetwork(metadata.network)
        network.load_state_dict(load_file(folder / NETWORK_FILE))
    except (OSError, ValidationError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{folder}: not a checkpoint of this format: {error}") from error
    return Checkpoint(metadata, network.eval())


def read_state(folder: Path) -> RunState:
    """Read what `write_checkpoint` was given as `state`.

    Raises:
        CheckpointError: The checkpoint holds no state, so that no run can go on from it.
    """
    state_folder = _whole_folder(folder) / STATE_FOLDER
    try:
        tensors = load_file(state_folder / _STATE_TENSORS_FILE)
        values = json.loads((state_folder / _STATE_VALUES_FILE).read_bytes())
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: holds no state to resume from: {error}") from error
    return RunState(tensors, values)


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix and a dot, without these."""
    return {
        name.removeprefix(f"{prefix}."): tensor
        for name, tensor in tensors.items()
        if name.startswith(f"{prefix}.")
    }


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary sibling to fill with synced files; it then takes the place of `folder`.

    If filling it fails, `folder` stays as it was. A rename cannot replace a folder that has
    content, so the old one steps aside first; `_whole_folder` finds it if power fails between.
    """
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    previous = _previous(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        yield unfinished
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    sync_directory(unfinished)
    if folder.exists():
        shutil.rmtree(previous, ignore_errors=True)
        folder.rename(previous)
    unfinished.rename(folder)
    sync_directory(folder.parent)
    shutil.rmtree(previous, ignore_errors=True)


def _whole_folder(folder: Path) -> Path:
    previous = _previous(folder)
    return previous if previous.exists() and not folder.exists() else folder


def _previous(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")


def _serialised(tensors: dict[str, Tensor]) -> bytes:
    # Parameters may be views of one flat tensor, which safetensors refuses to store.
    return save(
        {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    )
