"""Which decisions are not logged first as the log fills up."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from contract.records import AnsweredBy, DecisionBatch, decode_record
from contract.segments import SegmentWriter, read_records, segment_paths
from service.experience.decisions import DecisionLog
from service.experience.spool import Spool, SpoolLimits
from service.inference.fallback import Chosen
from service.inference.questions import Batch, Question
from service.metrics import Metrics
from tests import builders
from tests.service.running import wait_until

STABLE = AnsweredBy(1, "stable", "model", None, "p@1")
CANARY = AnsweredBy(2, "canary", "model", None, "p@2")


def question(name: str, episode_ids: list[str | None] | None) -> Question:
    rows = len(episode_ids or [None])
    return Question(
        name,
        np.zeros((rows, 4), np.float32),
        None,
        episode_ids,
        None if episode_ids is None else [0] * rows,
        arrived_at=0.0,
        deadline=1.0,
        on_fallback="heuristic",
        told=lambda answer: None,
    )


def answered() -> tuple[Batch, Chosen]:
    """A row without an episode, one of stable, and a request of which one row is the canary's."""
    questions = [question("lone", None), question("stable", ["e"]), question("both", ["f", "g"])]
    chosen = Chosen(
        np.arange(4),
        np.ones(4),
        [STABLE, CANARY],
        np.array([0, 0, 0, 1]),
        np.zeros((4, 2), np.float32),
    )
    return Batch.of(questions, np.dtype(np.float32)), chosen


def logged(folder: Path, fullness: float, *, is_late: bool = False) -> tuple[list[str], float]:
    """Names of the requests that are logged when the spool is so full, and what is counted."""
    filled = folder / "producer"
    filled.mkdir()
    writer = SegmentWriter(filled, 0)
    writer.append([np.random.default_rng(0).bytes(100_000)])
    writer.close()
    (path,) = segment_paths(filled)
    limits = SpoolLimits(0.01, int(path.stat().st_size / fullness), disk_free_share=0.0)
    metrics = Metrics()
    spool = Spool(folder, limits, metrics)
    assert spool.fullness == pytest.approx(fullness, abs=1e-4)
    log = DecisionLog("p", builders.declaration(), spool)
    log.add(1000.0, *answered(), is_late=is_late)
    spool._commit()
    spool._writer.close()
    records = [decode_record(content) for sequence, content in read_records(filled) if sequence]
    batches = [record for record in records if isinstance(record, DecisionBatch)]
    for batch in batches:
        assert batch.actions.array().tolist() == list(range(4))[4 - len(batch.steps) :]
    dropped = metrics.counter("dqn_records_dropped_total", "spool_full").value
    return [name for batch in batches for name in batch.decision_ids], dropped


@pytest.mark.parametrize(
    ("fullness", "names", "num_dropped"),
    [
        (0.89, ["lone", "stable", "both"], 0),
        (0.91, ["stable", "both"], 1),
        (0.96, ["both"], 2),
        (1.01, [], 4),
    ],
)
def test_rows_without_an_episode_go_first_and_the_canarys_last(
    tmp_path: Path, fullness: float, names: list[str], num_dropped: int
) -> None:
    assert logged(tmp_path, fullness) == (names, num_dropped)


def test_what_came_too_late_to_be_acted_on_goes_first_whoever_said_it(tmp_path: Path) -> None:
    assert logged(tmp_path, 0.91, is_late=True) == ([], 4)


def test_many_decisions_do_not_wait_for_the_next_commit(tmp_path: Path) -> None:
    async def scenario() -> None:
        spool = Spool(tmp_path, SpoolLimits(3600.0, 2**30, disk_free_share=0.0), Metrics())
        log = DecisionLog("p", builders.declaration(), spool)
        spool.start(asyncio.get_running_loop())
        for _ in range(1023):
            log.add(1000.0, *answered(), is_late=False)
        assert not spool._wake.is_set()
        log.add(1000.0, *answered(), is_late=False)
        await asyncio.to_thread(wait_until, lambda: spool.durable_sequence == 0, "a commit")
        await asyncio.to_thread(spool.close)
        (record,) = (decode_record(content) for _, content in read_records(spool.folder))
        assert isinstance(record, DecisionBatch)
        assert len(record.steps) == 4096

    asyncio.run(scenario())
