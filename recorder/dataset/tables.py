"""Episodes as three Parquet tables, each readable by any Parquet reader.

`episodes` has a row an episode, `steps` a row a step, `observations` a row a chunk of frames. Rows
of the three stand in the same order, and what points from one into another counts from its
episode's beginning: tables are joined end to end without a change.
"""

from collections.abc import Iterable, Sequence
from io import BytesIO
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import compute

from recorder.dataset.assembly import PackedEpisode

EPISODES: Final = "episodes.parquet"
STEPS: Final = "steps.parquet"
OBSERVATIONS: Final = "observations.parquet"

_WORD: Final = pa.dictionary(pa.int32(), pa.string())
_ROW_GROUP: Final = 65_536

EPISODE_SCHEMA: Final = pa.schema(
    [
        pa.field("episode_id", pa.string(), nullable=False),
        pa.field("policy", _WORD, nullable=False),
        pa.field("ending", _WORD, nullable=False),
        pa.field("is_complete", pa.bool_(), nullable=False),
        pa.field("episode_return", pa.float64(), nullable=False),
        pa.field("started_at", pa.float64(), nullable=False),
        pa.field("ended_at", pa.float64(), nullable=False),
        pa.field("behaviours", pa.list_(pa.string()), nullable=False),
        pa.field("num_steps", pa.int32(), nullable=False),
        pa.field("num_rows", pa.int32(), nullable=False),
        pa.field("num_chunks", pa.int32(), nullable=False),
    ]
)
STEP_SCHEMA: Final = pa.schema(
    [
        pa.field("episode_id", _WORD, nullable=False),
        pa.field("step", pa.int32(), nullable=False),
        pa.field("time", pa.float64(), nullable=False),
        pa.field("reported_at", pa.float64(), nullable=False),
        pa.field("version", pa.int32()),
        pa.field("variant", _WORD, nullable=False),
        pa.field("source", _WORD, nullable=False),
        pa.field("reason", _WORD),
        pa.field("behaviour", _WORD, nullable=False),
        pa.field("observation_row", pa.int32(), nullable=False),
        pa.field("next_observation_row", pa.int32(), nullable=False),
        pa.field("action", pa.int32(), nullable=False),
        pa.field("propensity", pa.float32()),
        pa.field("epsilon", pa.float32(), nullable=False),
        pa.field("q_values", pa.list_(pa.float16())),
        pa.field("action_mask", pa.list_(pa.bool_())),
        pa.field("reward", pa.float64(), nullable=False),
        pa.field("terminated", pa.bool_(), nullable=False),
        pa.field("truncated", pa.bool_(), nullable=False),
        pa.field("tags", pa.map_(pa.string(), pa.string())),
        pa.field("logged_share", pa.float32(), nullable=False),
        pa.field("salt", _WORD),
    ]
)
OBSERVATION_SCHEMA: Final = pa.schema(
    [
        pa.field("episode_id", _WORD, nullable=False),
        pa.field("num_rows", pa.int32(), nullable=False),
        pa.field("content", pa.large_binary(), nullable=False),
    ]
)
SCHEMAS: Final = {
    EPISODES: EPISODE_SCHEMA,
    STEPS: STEP_SCHEMA,
    OBSERVATIONS: OBSERVATION_SCHEMA,
}


def tables_of(episodes: Sequence[PackedEpisode]) -> dict[str, pa.Table]:
    """The three tables of some episodes, by file name."""
    return {
        EPISODES: pa.Table.from_pylist([_episode_row(each) for each in episodes], EPISODE_SCHEMA),
        STEPS: _columns(STEP_SCHEMA, chain.from_iterable(map(_step_rows, episodes))),
        OBSERVATIONS: _columns(
            OBSERVATION_SCHEMA,
            (
                (each.episode.episode_id, chunk.num_rows, chunk.content)
                for each in episodes
                for chunk in each.chunks
            ),
        ),
    }


def join_tables(parts: Sequence[dict[str, pa.Table]]) -> dict[str, pa.Table]:
    """One part's tables out of several's, end to end."""
    return {
        name: pa.concat_tables([part[name] for part in parts]).unify_dictionaries().combine_chunks()
        for name in SCHEMAS
    }


def encode_table(name: str, table: pa.Table) -> bytes:
    """A table as a Parquet file."""
    buffer = BytesIO()
    # What is compressed already gains nothing from a second pass.
    compression = "none" if name == OBSERVATIONS else "zstd"
    pq.write_table(
        table,
        buffer,
        compression=compression,
        use_dictionary=[field.name for field in table.schema if pa.types.is_dictionary(field.type)],
        row_group_size=_ROW_GROUP,
    )
    return buffer.getvalue()


def decode_table(content: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet file as a table."""
    return pq.read_table(BytesIO(content), columns=columns)


def with_later_columns(name: str, table: pa.Table) -> pa.Table:
    """A table as this release has them: what an earlier one did not know is null."""
    for place, field in enumerate(SCHEMAS[name]):
        if field.name not in table.schema.names:
            table = table.add_column(place, field, pa.nulls(len(table), field.type))
    return table


def count_words(table: pa.Table, column: str) -> dict[str, int]:
    """How many rows have each value of a column, by value."""
    counts = table[column].value_counts().to_pylist()
    found = {
        str(each["values"]): int(each["counts"]) for each in counts if each["values"] is not None
    }
    return dict(sorted(found.items()))


def list_widths(column: pa.ChunkedArray) -> set[int]:
    """How long the lists of a column are, those that are there."""
    lengths = compute.list_value_length(column).drop_null()
    return set(lengths.unique().to_pylist())


def filled_lists(
    column: pa.ChunkedArray, width: int, fill: float, dtype: npt.DTypeLike
) -> npt.NDArray[Any]:
    """A column of equally long lists as an array [N, width]; `fill` where there is nothing."""
    filled = np.full((len(column), width), fill, dtype)
    known = column.is_valid().to_numpy()
    values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    if len(values):
        found = values.reshape(int(known.sum()), -1)
        filled[known, : found.shape[1]] = found
    return filled


def _episode_row(packed: PackedEpisode) -> dict[str, object]:
    episode = packed.episode
    return {
        "episode_id": episode.episode_id,
        "policy": episode.policy,
        "ending": episode.ending,
        "is_complete": episode.is_complete,
        "episode_return": episode.episode_return,
        "started_at": episode.started_at,
        "ended_at": episode.ended_at,
        "behaviours": list(dict.fromkeys(who.behaviour for who in episode.answered_by)),
        "num_steps": len(packed.steps),
        "num_rows": packed.num_rows,
        "num_chunks": len(packed.chunks),
    }


def _step_rows(packed: PackedEpisode) -> Iterable[tuple[object, ...]]:
    for step in packed.steps:
        who, more = step.answered_by, step.circumstances
        yield (
            packed.episode.episode_id,
            step.step,
            step.time,
            step.reported_at,
            who.version,
            who.variant,
            who.source,
            who.reason,
            who.behaviour,
            step.observation_row,
            step.next_observation_row,
            step.action,
            step.propensity,
            more.epsilon,
            step.q_values,
            more.action_mask,
            step.reward,
            step.terminated,
            step.truncated,
            None if more.tags is None else list(more.tags.items()),
            more.logged_share,
            more.salt,
        )


def _columns(schema: pa.Schema, rows: Iterable[tuple[object, ...]]) -> pa.Table:
    """A table of rows whose values stand in the schema's order."""
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)],
        schema=schema,
    )
