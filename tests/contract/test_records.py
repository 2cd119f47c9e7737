from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.records import (
    AnsweredBy,
    Column,
    DecisionBatch,
    Record,
    column_from,
    decode_record,
    encode_record,
    row_names,
    take_rows,
)
from tests.builders import MODEL, decision_batch, outcome, transition_record

HEURISTIC = AnsweredBy(3, "canary", "heuristic", "deadline", "heuristic/constant@844d4773fb1b")


def three_rows() -> DecisionBatch:
    return decision_batch(
        [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]],
        actions=[0, 1, 1],
        decision_ids=["a", "b"],
        row_counts=[1, 2],
        episode_ids=["e", None, "f"],
        steps=[0, None, 7],
        action_masks=Column.of(np.array([[True, True], [False, True], [True, True]])),
        propensities=Column.of(np.array([1.0, 0.5, 0.25], dtype=np.float32)),
        q_values=Column.of(np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float16)),
        answered_by=[MODEL, HEURISTIC],
        answered_by_index=[0, 1, 0],
        tags=[{"region": "north"}, None, {"region": "south", "client": "web"}],
        logged_share=0.25,
    )


RECORDS: list[Record] = [
    decision_batch(),
    decision_batch(q_values=None, epsilon=0.05),
    three_rows(),
    outcome(-1.5, decision_id="a", row=2),
    outcome(
        episode_id="e",
        step=9,
        policy=None,
        truncated=True,
        final_observation=Column.of(np.arange(6, dtype=np.uint8).reshape(2, 3)),
    ),
    outcome(decision_id="a", terminated=True),
    transition_record(),
    transition_record(episode_id=None, step=None, propensity=None, truncated=True),
]


@pytest.mark.parametrize("record", RECORDS)
def test_record_of_each_kind_comes_back_as_it_was(record: Record) -> None:
    assert decode_record(encode_record(record)) == record


@pytest.mark.parametrize(
    "array",
    [
        np.array([[1.5, -2.0]], dtype=np.float32),
        np.array([1.5, 2.0], dtype=">f8"),
        np.arange(6, dtype=np.uint8).reshape(2, 3).T,
        np.array([True, False]),
        np.array(7, dtype=np.int64),
        np.zeros((0, 4), dtype=np.float16),
    ],
)
def test_column_gives_back_the_array_whatever_its_layout(array: npt.NDArray[Any]) -> None:
    found = Column.of(array).array()
    np.testing.assert_array_equal(found, array)
    assert found.dtype.name == array.dtype.name
    assert not found.flags.writeable


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_malformed_bytes_raise_nothing_but_a_decode_error(data: st.DataObject) -> None:
    content = bytearray(encode_record(data.draw(st.sampled_from(RECORDS))))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        record = decode_record(bytes(content[: data.draw(st.integers(0, len(content)))]))
    except msgspec.DecodeError:
        return
    if isinstance(record, DecisionBatch):
        take_rows(record, list(range(len(record.steps))))


@given(content=st.binary())
def test_arbitrary_bytes_raise_nothing_but_a_decode_error(content: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_record(content)


FLOATS = Column.of(np.zeros((1, 2), dtype=np.float32))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (lambda: decision_batch(row_counts=[2]), r"row_counts \[2\] do not make 1 rows"),
        (lambda: decision_batch(decision_ids=["a", "b"]), "row_counts"),
        (lambda: decision_batch(row_counts=[-1]), r">= 0.*\$\[5\]"),
        (
            lambda: decision_batch(steps=[1, 2]),
            "answered_by_index, tags and salts must have 1 entries",
        ),
        (lambda: decision_batch(answered_by_index=[1]), "points beyond answered_by"),
        (lambda: decision_batch(answered_by_index=[0, 0]), "must have 1 entries, found 2"),
        (lambda: decision_batch(answered_by=[]), "points beyond answered_by"),
        (lambda: decision_batch(actions=[0, 1]), r"actions: shape \(2,\) for 1 rows"),
        (lambda: decision_batch(propensities=FLOATS), "must have one axis"),
        (lambda: msgspec.structs.replace(decision_batch(), actions=FLOATS), "must have one axis"),
        (lambda: decision_batch([[1.0], [2.0]], decision_ids=["a/0"]), "'a/0' names one row"),
        (
            lambda: decision_batch(q_values=Column("float32", (1, 4), b"1234")),
            r"q_values: 4 bytes for float32 of shape \(1, 4\)",
        ),
        (lambda: decision_batch(tags=[]), "salts must have 1 entries, found 0"),
        (lambda: decision_batch(salts=["a", "b"]), "salts must have 1 entries, found 2"),
        (lambda: decision_batch(frame_stack=0), r">= 1.*\$\[19\]"),
        (lambda: decision_batch(logged_share=0.0), r"> 0.0"),
        (lambda: outcome(), "needs decision_id, or episode_id and step"),
        (lambda: outcome(episode_id="e"), "needs decision_id, or episode_id and step"),
        (lambda: outcome(episode_id="e", step=-1), r">= 0.*\$\[6\]"),
        (
            lambda: outcome(decision_id="a", final_observation=Column("object", (1,), bytes(8))),
            "final_observation: no dtype 'object'",
        ),
        (lambda: outcome(float("nan"), decision_id="a"), "finite number, found nan"),
        (lambda: transition_record(reward=float("-inf")), "finite number, found -inf"),
        (
            lambda: transition_record(next_observation=Column("uint8", (-1, -1), b"1")),
            r">= 0.*\$\[10\]",
        ),
    ],
)
def test_record_that_contradicts_itself_is_not_decoded(
    record: Callable[[], Record], message: str
) -> None:
    made = record()
    with pytest.raises(msgspec.DecodeError, match=message):
        decode_record(encode_record(made))


def test_rows_are_named_for_their_request_and_their_place_in_it() -> None:
    assert row_names(three_rows()) == ["a/0", "b/0", "b/1"]


def test_rows_that_are_taken_keep_their_names_and_all_that_belongs_to_them() -> None:
    taken = take_rows(three_rows(), [2, 0])
    assert row_names(taken) == ["b/1", "a/0"]
    assert (taken.row_counts, taken.episode_ids, taken.steps) == ([1, 1], ["f", "e"], [7, 0])
    assert taken.observations.array().tolist() == [[4, 5], [0, 1]]
    assert taken.actions.array().tolist() == [1, 0]
    assert taken.propensities.array().tolist() == [0.25, 1.0]
    assert taken.answered_by_index == [0, 0]
    assert taken.tags == [{"region": "south", "client": "web"}, {"region": "north"}]
    assert taken.logged_share == 0.25
    assert taken.q_values is not None
    assert taken.q_values.array().tolist() == [[5, 6], [1, 2]]
    assert taken.action_masks is not None
    assert taken.action_masks.array().tolist() == [[True, True], [True, True]]
    assert decode_record(encode_record(taken)) == taken


def test_rows_may_be_taken_from_rows_that_were_taken() -> None:
    assert row_names(take_rows(take_rows(three_rows(), [1, 2]), [1])) == ["b/1"]


def test_absent_columns_stay_absent_when_rows_are_taken() -> None:
    taken = take_rows(decision_batch(q_values=None), [0])
    absent = (taken.q_values, taken.action_masks, taken.answered_by_index, taken.tags)
    assert absent == (None, None, None, None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2, 3], r"expected shape \[2\], found \[3\]"),
        ([[1, 2]], r"expected shape \[2\], found \[1, 2\]"),
        ([1, [2]], "inhomogeneous"),
        ([1, None], "expected uint8"),
        ([1, 256], "expected uint8"),
        ([1, "x"], "invalid literal"),
    ],
)
def test_observation_of_another_shape_or_dtype_is_refused(values: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        column_from(values, "uint8", (2,))
    assert column_from([1, 255], "uint8", (2,)).array().tolist() == [1, 255]


@pytest.mark.parametrize(
    ("record", "num_later_fields"),
    [(decision_batch(), 2), (outcome(episode_id="e", step=0), 1)],
)
def test_a_record_of_an_earlier_release_is_read(record: Record, num_later_fields: int) -> None:
    fields = msgspec.msgpack.decode(encode_record(record))
    assert decode_record(msgspec.msgpack.encode(fields[:-num_later_fields])) == record
