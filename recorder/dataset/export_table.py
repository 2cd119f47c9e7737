"""A dataset as the flat table that ReAgent made customary: a row a step, keyed by mdp_id.

`state_features` is a map from the element's number to its value, `action` and `possible_actions`
are words, `action_probability` is the logged propensity (null where the agent did not say). Beyond
these stand `behaviour` (who acted: a heuristic's action is not the policy's), `terminated`,
`truncated` and `time`.
"""

from itertools import repeat
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from contract.files import sync_directory
from recorder.dataset.load import Dataset
from recorder.dataset.manifest import DatasetError
from recorder.dataset.transitions import LoggedEpisode

MAX_FEATURES: Final = 4096
"""A map of more elements a row, such as a frame's, is of no use to anybody."""

_EPISODES_AT_ONCE: Final = 256
_SCHEMA: Final = pa.schema(
    [
        ("mdp_id", pa.string()),
        ("sequence_number", pa.int64()),
        ("ds", pa.string()),
        ("state_features", pa.map_(pa.int64(), pa.float64())),
        ("action", pa.string()),
        ("reward", pa.float64()),
        ("possible_actions", pa.list_(pa.string())),
        ("action_probability", pa.float64()),
        ("behaviour", pa.string()),
        ("terminated", pa.bool_()),
        ("truncated", pa.bool_()),
        ("time", pa.float64()),
    ]
)


def export_table(dataset: Dataset, path: Path) -> int:
    """Write one Parquet file, whole or not at all; the number of rows.

    Raises:
        DatasetError: The observations have more than MAX_FEATURES elements.
    """
    for part in dataset.manifests:
        if int(np.prod(part.observation_shape)) > MAX_FEATURES:
            raise DatasetError(
                f"{dataset.policy}: observations of shape {part.observation_shape} do not fit into "
                f"a table of features, {MAX_FEATURES} at most; a Minari dataset holds them"
            )
    temporary = path.with_name(f".{path.name}.tmp")
    num_rows = 0
    try:
        with pq.ParquetWriter(temporary, _SCHEMA, compression="zstd") as writer:
            batch: list[pa.RecordBatch] = []
            for episode in dataset.episodes():
                batch.append(_rows(episode, dataset))
                num_rows += len(batch[-1])
                if len(batch) == _EPISODES_AT_ONCE:
                    writer.write_table(pa.Table.from_batches(batch))
                    batch = []
            if batch:
                writer.write_table(pa.Table.from_batches(batch))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)
    return num_rows


def _rows(episode: LoggedEpisode, dataset: Dataset) -> pa.RecordBatch:
    steps = episode.transitions
    words = [str(action) for action in range(dataset.num_actions)]
    days = np.char.partition(
        np.datetime_as_string((steps.times * 1000).astype("datetime64[ms]")), "T"
    )[:, 0]
    columns: list[Any] = [
        list(repeat(episode.episode_id, len(steps.times))),
        steps.steps.astype(np.int64),
        days.tolist(),
        _features(steps.observations),
        [str(action) for action in steps.actions.tolist()],
        steps.rewards.astype(np.float64),
        [[words[action] for action in np.flatnonzero(mask)] for mask in steps.action_masks],
        pa.array(steps.propensities.astype(np.float64), from_pandas=True),
        [dataset.behaviours[code] for code in steps.behaviours.tolist()],
        steps.terminated,
        steps.truncated,
        steps.times,
    ]
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, field.type)
        for column, field in zip(columns, _SCHEMA, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)


def _features(observations: npt.NDArray[Any]) -> pa.MapArray:
    flat = observations.reshape(len(observations), -1).astype(np.float64)
    rows, width = flat.shape
    return pa.MapArray.from_arrays(
        pa.array(np.arange(rows + 1, dtype=np.int32) * width),
        pa.array(np.tile(np.arange(width, dtype=np.int64), rows)),
        pa.array(flat.reshape(-1)),
    )
