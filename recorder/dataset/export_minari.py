"""A dataset as one of Minari's, in its Parquet format: a folder an episode, frames lossless.

Minari knows whole episodes only, whose every step has a next observation. A logged one is therefore
cut where a step is missing, and a piece that does not end in a true end is marked as truncated. A
step whose next observation is not known and which is no end has no place in it, and is counted.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree
from typing import Any, Final, NamedTuple
from uuid import uuid4

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from contract.files import make_directory, sync_directory
from recorder.dataset.load import Dataset
from recorder.dataset.manifest import DatasetError
from recorder.dataset.transitions import LoggedTransitions

MINARI_VERSION: Final = "0.5.4"
"""Whose format this is; later releases of its series read it."""


class MinariReport(NamedTuple):
    """What an export wrote, and what it had to leave out."""

    num_episodes: int
    num_steps: int
    num_left_out: int
    """Steps without a next observation that are no true end."""


def export_minari(dataset: Dataset, folder: Path, dataset_id: str) -> MinariReport:
    """Write a dataset below Minari's root, whole or not at all.

    Args:
        dataset: What is exported; its observations have one shape.
        folder: Minari's root, such as `~/.minari/datasets`.
        dataset_id: Its name there, such as `dqn/cartpole-v0`.

    Raises:
        DatasetError: The name is taken, or the observations are of several shapes.
    """
    target = folder / dataset_id
    if target.exists():
        raise DatasetError(f"{target}: there is a dataset of that name")
    layouts = {part.layout for part in dataset.manifests}
    if len(layouts) != 1:
        raise DatasetError(f"{dataset.policy}: observations have {len(layouts)} shapes, expected 1")
    make_directory(target.parent)
    temporary = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
    try:
        report = _write(dataset, temporary / "data", dataset_id)
        temporary.rename(target)
    finally:
        rmtree(temporary, ignore_errors=True)
    sync_directory(target.parent)
    return report


def _write(dataset: Dataset, data: Path, dataset_id: str) -> MinariReport:
    data.mkdir(parents=True)
    num_episodes = num_steps = num_logged = 0
    num_actions = dataset.num_actions
    for episode in dataset.episodes():
        num_logged += len(episode.transitions.times)
        num_actions = max(num_actions, int(episode.transitions.actions.max()) + 1)
        for piece in _pieces(episode.transitions):
            length = len(piece.times)
            place = data / str(num_episodes)
            place.mkdir()
            # Minari takes each batch that it reads for an episode, and a row group is a batch.
            pq.write_table(
                _table(piece, dataset, num_episodes),
                place / "part-0.parquet",
                compression="zstd",
                row_group_size=length + 1,
            )
            about = {"id": num_episodes, "total_steps": length, "episode_id": episode.episode_id}
            (place / "metadata.json").write_bytes(msgspec.json.encode(about))
            num_episodes += 1
            num_steps += length
    size = sum(path.stat().st_size for path in data.rglob("*"))
    layout = dataset.manifests[0].layout
    metadata = {
        "dataset_id": dataset_id,
        "minari_version": MINARI_VERSION,
        "data_format": "parquet",
        "jpeg_encoding": False,
        "total_episodes": num_episodes,
        "total_steps": num_steps,
        "dataset_size": round(size / 1e6, 1),
        "observation_space": _box(layout.shape, np.dtype(layout.dtype)),
        "action_space": json.dumps(
            {"type": "Discrete", "dtype": "int64", "start": 0, "n": num_actions}
        ),
        "algorithm_name": ", ".join(dataset.behaviours),
        "description": f"{dataset.dataset_id}, sha256 {dataset.sha256}",
    }
    (data / "metadata.json").write_bytes(msgspec.json.encode(metadata))
    return MinariReport(num_episodes, num_steps, num_logged - num_steps)


def _pieces(transitions: LoggedTransitions) -> Iterator[LoggedTransitions]:
    """Runs of steps that follow one another and can be learned from."""
    usable = transitions.can_be_learned_from
    breaks = (np.diff(transitions.steps) != 1) | ~usable[:-1] | ~usable[1:]
    breaks |= transitions.terminated[:-1]
    for run in np.split(np.arange(len(usable)), np.flatnonzero(breaks) + 1):
        if usable[run].all():
            yield LoggedTransitions._make(column[run] for column in transitions)


def _table(steps: LoggedTransitions, dataset: Dataset, number: int) -> pa.Table:
    """The steps, and one row more with what was seen last; its other columns are never read."""
    seen = np.concatenate((steps.observations, steps.next_observations[-1:]))
    truncated = steps.truncated.copy()
    truncated[-1] = not steps.terminated[-1]
    behaviours = [dataset.behaviours[code] for code in steps.behaviours.tolist()]
    return pa.table(
        {
            "episode_id": np.full(len(seen), number, np.int32),
            "observations": _fixed_lists(seen),
            "actions": _padded(steps.actions),
            "rewards": _padded(steps.rewards.astype(np.float64)),
            "terminations": _padded(steps.terminated),
            "truncations": _padded(truncated),
            "infos": pa.StructArray.from_arrays(
                [
                    pa.array(_padded(steps.propensities)),
                    pa.array([*behaviours, ""]),
                    pa.array(_padded(steps.times)),
                ],
                ["action_probability", "behaviour", "time"],
            ),
        }
    )


def _fixed_lists(values: npt.NDArray[Any]) -> pa.FixedSizeListArray:
    flat = np.ascontiguousarray(values).reshape(len(values), -1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1])


def _padded(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.pad(values, (0, 1))


def _box(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    """A space without bounds that were not declared: all that the dtype holds."""
    low, high = (-np.inf, np.inf)
    if dtype.kind != "f":
        low, high = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    # The standard library's JSON has infinities, which Minari's reader expects.
    return json.dumps(
        {
            "type": "Box",
            "dtype": dtype.name,
            "shape": list(shape),
            "low": np.full(shape, low).tolist(),
            "high": np.full(shape, high).tolist(),
        }
    )
