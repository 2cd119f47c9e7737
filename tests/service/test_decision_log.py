"""What batches become in the record that they share."""

from pathlib import Path

import numpy as np

from contract.records import AnsweredBy, DecisionBatch, decode_record
from contract.segments import read_records
from service.experience.decisions import DecisionLog
from service.experience.spool import Spool
from service.inference.fallback import Chosen
from service.inference.questions import Batch, Question
from service.metrics import Metrics
from tests import builders
from tests.service.asking import LIMITS

MODEL = AnsweredBy(1, "stable", "model", None, "p@1")
HEURISTIC = AnsweredBy(1, "stable", "heuristic", "deadline", "heuristic/constant")


def batch(first: float, rows: int, legal: list[bool] | None = None) -> Batch:
    masks = None if legal is None else np.array([legal] * rows)
    observations = (first + np.arange(rows * 4, dtype=np.float32)).reshape(rows, 4)
    question = Question(
        f"d{first:g}", observations, masks, None, None,
        arrived_at=0.0, deadline=1.0, on_fallback="heuristic", told=lambda answer: None,
    )  # fmt: skip
    return Batch.of([question], np.dtype(np.float32))


def test_rows_keep_their_order_where_only_some_batches_have_masks_or_q_values(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path, LIMITS, Metrics())
    log = DecisionLog("p", builders.declaration(), spool)
    q_values = np.array([[1.0, 2.0], [1e9, 4.0]], np.float32)
    alone = Chosen(np.array([7]), np.array([0.5]), [HEURISTIC], None, None)
    log.add(1.0, batch(0.0, 1), alone, is_late=False)
    # Not the type that rows before it had: it is made theirs.
    both = Chosen(np.array([8, 9], np.int32), np.ones(2), [MODEL], None, q_values)
    log.add(2.0, batch(100.0, 2, [True, False]), both, is_late=False)
    log.add(3.0, batch(200.0, 1), alone, is_late=False)
    spool._commit()
    spool._writer.close()
    (record,) = (decode_record(content) for _, content in read_records(spool.folder))
    assert isinstance(record, DecisionBatch)
    assert record.observations.array()[:, 0].tolist() == [0.0, 100.0, 104.0, 200.0]
    assert record.actions.array().tolist() == [7, 8, 9, 7]
    assert record.propensities.array().tolist() == [0.5, 1.0, 1.0, 0.5]
    assert record.action_masks is not None
    assert record.action_masks.array()[:, 1].tolist() == [True, False, False, True]
    assert record.q_values is not None
    found = record.q_values.array()
    assert found.dtype == np.float16
    # The largest half: no infinity is logged where there was none.
    assert found[1:3].tolist() == [[1.0, 2.0], [65504.0, 4.0]]
    assert np.isnan(found[[0, 3]]).all()
    assert record.answered_by == [HEURISTIC, MODEL]
    assert record.answered_by_index == [0, 1, 1, 0]
    assert record.time == 3.0
