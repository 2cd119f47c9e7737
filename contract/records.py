"""What the transition log holds: decisions, outcomes and whole transitions, and their codec.

Records are self-contained: a reader needs no manifest to decode one. A batch of decisions is one
record in columns, since a record a row would cost the server more than the model does.
"""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from contract.declaration import ObservationDtype


class Column(msgspec.Struct, array_like=True, frozen=True):
    """An array as bytes: C order, little-endian."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def of(cls, array: npt.NDArray[Any]) -> "Column":
        """Copy an array into a column."""
        return cls(array.dtype.name, array.shape, array.tobytes())

    def array(self) -> npt.NDArray[Any]:
        """The array, read-only, over the column's own bytes."""
        return np.frombuffer(self.data, dtype=self.dtype).reshape(self.shape)


class AnsweredBy(msgspec.Struct, array_like=True, frozen=True):
    """Who chose an action, and why it was not the model where it was not."""

    version: int | None
    """Of the model whose turn it was; None where none is loaded."""
    variant: str
    source: str
    """`model` or `heuristic`."""
    reason: str | None
    """Why a heuristic answered; None for the model."""
    behaviour: str
    """Who is to be weighed as having acted: `<policy>@<version>` or `heuristic/<kind>@<hash>`."""


class DecisionBatch(msgspec.Struct, array_like=True, frozen=True, tag="d"):
    """The decisions that one call of the model answered, N rows of one policy."""

    policy: str
    schema_hash: str
    time: float
    """Unix seconds of the answer."""
    decision_ids: list[str]
    """One a request; a row is named `<decision_id>/<row within the request>`."""
    row_counts: list[int]
    """Rows of each request, in order; they sum to N."""
    episode_ids: list[str | None]
    """One a row."""
    steps: list[int | None]
    """One a row."""
    observations: Column
    """[N, *shape]."""
    action_masks: Column | None
    """[N, num_actions] of bool; None where every action was legal."""
    actions: Column
    """[N] of int64."""
    propensities: Column
    """[N] of float32: the probability with which the action was chosen."""
    q_values: Column | None
    """[N, num_actions] of float16, NaN where the model did not answer."""
    answered_by: list[AnsweredBy]
    answered_by_index: list[int] | None
    """Row to entry of `answered_by`; None where the one entry fits all rows."""
    epsilon: float = 0.0


class Outcome(msgspec.Struct, array_like=True, frozen=True, tag="o"):
    """What came of one decision. It names the decision by its id or by episode and step."""

    policy: str | None
    time: float
    decision_id: str | None
    row: int
    episode_id: str | None
    step: int | None
    reward: float
    terminated: bool = False
    truncated: bool = False
    final_observation: Column | None = None
    """What the environment showed after the last action; without it a truncated step has no next
    observation to learn from."""


class TransitionRecord(msgspec.Struct, array_like=True, frozen=True, tag="t"):
    """A whole transition from an agent that keeps its own."""

    policy: str
    schema_hash: str
    time: float
    transition_id: str
    episode_id: str | None
    step: int | None
    observation: Column
    action: int
    reward: float
    next_observation: Column
    terminated: bool
    truncated: bool
    propensity: float | None
    behaviour: str


Record = DecisionBatch | Outcome | TransitionRecord

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


def encode_record(record: Record) -> bytes:
    """One record as MessagePack."""
    return _ENCODER.encode(record)


def decode_record(content: bytes) -> Record:
    """Read one record.

    Raises:
        msgspec.DecodeError: The bytes are not a record.
    """
    return _DECODER.decode(content)


def column_from(
    values: Any,
    dtype: ObservationDtype,
    shape: tuple[int, ...],
) -> Column:
    """A column of one observation; ValueError where it does not have that shape."""
    array = np.asarray(values, dtype=dtype)
    if array.shape != shape:
        raise ValueError(f"expected shape {list(shape)}, found {list(array.shape)}")
    return Column.of(array)


def take_rows(batch: DecisionBatch, rows: list[int]) -> DecisionBatch:
    """The batch with only these rows, each a request of its own that is named `<id>/<row>`."""
    names = row_names(batch)
    index = batch.answered_by_index
    return msgspec.structs.replace(
        batch,
        decision_ids=[names[row] for row in rows],
        row_counts=[1] * len(rows),
        episode_ids=[batch.episode_ids[row] for row in rows],
        steps=[batch.steps[row] for row in rows],
        observations=_take(batch.observations, rows),
        action_masks=batch.action_masks and _take(batch.action_masks, rows),
        actions=_take(batch.actions, rows),
        propensities=_take(batch.propensities, rows),
        q_values=batch.q_values and _take(batch.q_values, rows),
        answered_by_index=None if index is None else [index[row] for row in rows],
    )


def row_names(batch: DecisionBatch) -> list[str]:
    """`<decision_id>/<row>` of each row; an id that names its row already is kept."""
    return [
        name if "/" in name else f"{name}/{row}"
        for name, count in zip(batch.decision_ids, batch.row_counts, strict=True)
        for row in range(count)
    ]


def _take(column: Column, rows: list[int]) -> Column:
    return Column.of(column.array()[rows])
