"""What the transition log holds: decisions, outcomes and whole transitions, and their codec.

Records are self-contained: a reader needs no manifest to decode one. A batch of decisions is one
record in columns, since a record a row would cost the server more than the model does.
"""

import math
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from contract.declaration import ObservationDtype

_ITEM_BYTES: Final = {
    name: np.dtype(name).itemsize
    for name in ("bool", "float16", "float32", "float64", "uint8", "int32", "int64")
}
_NAMES: Final = {np.dtype(name).newbyteorder("<").str: name for name in _ITEM_BYTES}

Count = Annotated[int, msgspec.Meta(ge=0)]
Depth = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]


class Column(msgspec.Struct, array_like=True, frozen=True):
    """An array as bytes: C order, little-endian."""

    dtype: str
    shape: tuple[Count, ...]
    data: bytes

    @classmethod
    def of(cls, array: npt.NDArray[Any]) -> "Column":
        """Copy an array into a column."""
        dtype = array.dtype
        # The name of a dtype is assembled anew each time it is asked for, the code is not.
        name = _NAMES.get(dtype.str)
        if name is None:
            dtype = dtype.newbyteorder("<")
            array, name = array.astype(dtype), dtype.name
        return cls(name, array.shape, array.tobytes())

    def array(self) -> npt.NDArray[Any]:
        """The array, read-only, over the column's own bytes."""
        dtype = np.dtype(self.dtype).newbyteorder("<")
        return np.frombuffer(self.data, dtype=dtype).reshape(self.shape)


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
    """One a request; a row is named `<decision_id>/<row within the request>`.

    An id holds no slash, save one that `take_rows` made: the name of its only row.
    """
    row_counts: list[Count]
    """Rows of each request, in order; they sum to N."""
    episode_ids: list[str | None]
    """One a row."""
    steps: list[Count | None]
    """One a row."""
    observations: Column
    """[N, *shape], or as `frame_stack` says."""
    action_masks: Column | None
    """[N, num_actions] of bool; None where every action was legal."""
    actions: Column
    """[N] of int64."""
    propensities: Column
    """[N] of float32: the probability with which the action was chosen."""
    q_values: Column | None
    """[N, num_actions] of float16, NaN where the model did not answer."""
    answered_by: list[AnsweredBy]
    answered_by_index: list[Count] | None
    """Row to entry of `answered_by`; None where the one entry fits all rows."""
    epsilon: float = 0.0
    is_late: bool = False
    """What the model said after the heuristic had answered: for study, not what was done."""
    tags: list[dict[str, str] | None] | None = None
    """One a row: what an operator breaks an incident down by, such as a region; None without any.
    Never seen by the policy."""
    logged_share: Share = 1.0
    """Probability with which the rows' episodes were logged at all; they count for its inverse."""
    frame_stack: Depth = 1
    """Above 1 each row is but the newest frame of a stack of so many, [N, *shape[1:]]: the frames
    before it came with the steps before."""
    salts: list[str | None] | None = None
    """One a row: the salt of the hash that assigned its episode to a version, which is the
    rollout's id; None where no version was on trial."""


class Outcome(msgspec.Struct, array_like=True, frozen=True, tag="o"):
    """What came of one decision. It names the decision by its id, else by episode and step."""

    policy: str | None
    time: float
    decision_id: str | None
    row: Count
    episode_id: str | None
    step: Count | None
    reward: float
    terminated: bool = False
    truncated: bool = False
    final_observation: Column | None = None
    """What the environment showed after the last action, of a stack the newest frame or all of it;
    without it a truncated step has no next observation to learn from."""
    outcome_id: str | None = None
    """Tells a report that is sent again from another of the same reward; see `is_repeat`."""
    audit: float | None = None
    """How the step did in what the policy's declaration calls its audit metric."""


class TransitionRecord(msgspec.Struct, array_like=True, frozen=True, tag="t"):
    """A whole transition from an agent that keeps its own."""

    policy: str
    schema_hash: str
    time: float
    transition_id: str
    episode_id: str | None
    step: Count | None
    observation: Column
    action: int
    reward: float
    next_observation: Column
    terminated: bool
    truncated: bool
    propensity: float | None
    behaviour: str
    logged_share: Share = 1.0
    """As of a decision."""


Record = DecisionBatch | Outcome | TransitionRecord


def is_repeat(one: Outcome, other: Outcome) -> bool:
    """Whether two reports on one decision are the same, sent twice.

    Ids tell. Without them equal reports are one: an agent that reports several equal rewards for
    one decision, to be summed, gives each an id.
    """
    if one.outcome_id is not None or other.outcome_id is not None:
        return one.outcome_id == other.outcome_id
    return (one.reward, one.terminated, one.truncated) == (
        other.reward,
        other.terminated,
        other.truncated,
    )


_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


def encode_record(record: Record) -> bytes:
    """One record as MessagePack."""
    return _ENCODER.encode(record)


def decode_record(content: bytes) -> Record:
    """Read one record; its columns are as long as they say, and agree with one another.

    Raises:
        msgspec.DecodeError: The bytes are not a record.
    """
    try:
        record = _DECODER.decode(content)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from error
    match record:
        case DecisionBatch():
            _check_decisions(record)
        case Outcome():
            _check_outcome(record)
        case TransitionRecord():
            _check_reward(record.reward)
            _check_column("observation", record.observation)
            _check_column("next_observation", record.next_observation)
    return record


def column_from(
    values: Any,
    dtype: ObservationDtype,
    shape: tuple[int, ...],
) -> Column:
    """A column of one observation; ValueError where it does not have that dtype and shape."""
    try:
        array = np.asarray(values, dtype=dtype)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"expected {dtype}: {error}") from error
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
        tags=batch.tags and [batch.tags[row] for row in rows],
        salts=batch.salts and [batch.salts[row] for row in rows],
    )


def row_names(batch: DecisionBatch) -> list[str]:
    """`<decision_id>/<row>` of each row; an id that names its row already is kept."""
    return [
        name if "/" in name else f"{name}/{row}"
        for name, count in zip(batch.decision_ids, batch.row_counts, strict=True)
        for row in range(count)
    ]


def _check_decisions(batch: DecisionBatch) -> None:
    rows = len(batch.episode_ids)
    columns = {
        "observations": batch.observations,
        "action_masks": batch.action_masks,
        "actions": batch.actions,
        "propensities": batch.propensities,
        "q_values": batch.q_values,
    }
    for name, column in columns.items():
        if column is not None:
            _check_column(name, column, rows)
    if len(batch.actions.shape) != 1 or len(batch.propensities.shape) != 1:
        raise msgspec.ValidationError("actions and propensities must have one axis")
    index = batch.answered_by_index
    if len(batch.row_counts) != len(batch.decision_ids) or sum(batch.row_counts) != rows:
        raise msgspec.ValidationError(f"row_counts {batch.row_counts} do not make {rows} rows")
    for each in (batch.steps, index, batch.tags, batch.salts):
        if each is not None and len(each) != rows:
            raise msgspec.ValidationError(
                f"steps, answered_by_index, tags and salts must have {rows} entries, "
                f"found {len(each)}"
            )
    if rows and max(index or [0]) >= len(batch.answered_by):
        raise msgspec.ValidationError("answered_by_index points beyond answered_by")
    for name, count in zip(batch.decision_ids, batch.row_counts, strict=True):
        if "/" in name and count != 1:
            raise msgspec.ValidationError(f"decision id {name!r} names one row, not {count}")


def _check_outcome(outcome: Outcome) -> None:
    if outcome.decision_id is None and (outcome.episode_id is None or outcome.step is None):
        raise msgspec.ValidationError("an outcome needs decision_id, or episode_id and step")
    _check_reward(outcome.reward)
    if outcome.final_observation is not None:
        _check_column("final_observation", outcome.final_observation)


def _check_reward(reward: float) -> None:
    # One that is none would make a mean, and a trial's evidence, none for good.
    if not math.isfinite(reward):
        raise msgspec.ValidationError(f"reward: expected a finite number, found {reward}")


def _check_column(name: str, column: Column, rows: int | None = None) -> None:
    item_bytes = _ITEM_BYTES.get(column.dtype)
    if item_bytes is None:
        raise msgspec.ValidationError(f"{name}: no dtype {column.dtype!r}")
    if len(column.data) != item_bytes * math.prod(column.shape):
        raise msgspec.ValidationError(
            f"{name}: {len(column.data)} bytes for {column.dtype} of shape {column.shape}"
        )
    if rows is not None and column.shape[:1] != (rows,):
        raise msgspec.ValidationError(f"{name}: shape {column.shape} for {rows} rows")


def _take(column: Column, rows: list[int]) -> Column:
    return Column.of(column.array()[rows])
