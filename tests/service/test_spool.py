import asyncio
import errno
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from secrets import token_hex

import pytest

from contract.records import Outcome, decode_record
from contract.segments import read_records, segment_paths
from service.errors import ServiceError, SpoolFullError
from service.experience.spool import Spool, SpoolLimits
from service.metrics import Metrics
from tests import builders
from tests.service.asking import LIMITS
from tests.service.conftest import declare
from tests.service.running import running, settings_for


def outcome(reward: float) -> Outcome:
    return builders.outcome(reward, decision_id="d")


def rewards(folder: Path) -> list[float]:
    records = [decode_record(content) for _, content in read_records(folder)]
    return [record.reward for record in records if isinstance(record, Outcome)]


def with_spool(
    root: Path, scenario: Callable[[Spool], Awaitable[None]], limits: SpoolLimits = LIMITS
) -> Spool:
    """Run a scenario over a spool that writes; it is closed after it."""

    async def run() -> Spool:
        spool = Spool(root, limits, Metrics())
        spool.start(asyncio.get_running_loop())
        try:
            await scenario(spool)
        finally:
            await asyncio.to_thread(spool.close)
        return spool

    return asyncio.run(run())


def put_durably(spool: Spool, *records: Outcome) -> "asyncio.Future[ServiceError | None]":
    told: asyncio.Future[ServiceError | None] = asyncio.get_running_loop().create_future()
    spool.put_durably(list(records), told.set_result)
    return told


def test_what_is_acknowledged_is_in_the_file(tmp_path: Path) -> None:
    async def scenario(spool: Spool) -> None:
        assert await put_durably(spool, outcome(1.0), outcome(2.0)) is None
        assert rewards(spool.folder) == [1.0, 2.0]
        assert spool.durable_sequence == 1

    with_spool(tmp_path, scenario)


def test_one_fsync_acknowledges_all_that_came_while_the_last_one_ran(tmp_path: Path) -> None:
    async def scenario(spool: Spool) -> None:
        told = [put_durably(spool, outcome(float(number))) for number in range(500)]
        assert await asyncio.gather(*told) == [None] * 500
        assert sorted(rewards(spool.folder)) == [float(number) for number in range(500)]

    with_spool(tmp_path, scenario)


def test_nothing_is_acknowledged_that_the_disk_did_not_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "the disk is gone")

    async def scenario(spool: Spool) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", fail)
            refusal = await put_durably(spool, outcome(1.0))
        assert isinstance(refusal, SpoolFullError)
        assert "the disk is gone" in str(refusal)
        assert await put_durably(spool, outcome(2.0)) is None

    assert 2.0 in rewards(with_spool(tmp_path, scenario).folder)


def test_closing_writes_what_waits(tmp_path: Path) -> None:
    async def scenario(spool: Spool) -> None:
        spool.put(outcome(3.0))

    slow = SpoolLimits(commit_seconds=5.0, max_bytes=2**30, disk_free_share=0.0)
    assert rewards(with_spool(tmp_path, scenario, slow).folder) == [3.0]


def test_a_full_spool_refuses_before_it_accepts_and_counts_what_it_drops(tmp_path: Path) -> None:
    async def scenario(spool: Spool) -> None:
        await put_durably(spool, outcome(1.0))
        spool._measure()
        with pytest.raises(SpoolFullError, match="spool_full"):
            put_durably(spool, outcome(2.0), outcome(3.0))
        spool.put(outcome(4.0))
        assert spool._dropped["spool_full"].value == 3
        assert spool.refusal == "spool_full"

    limits = SpoolLimits(commit_seconds=0.01, max_bytes=10, disk_free_share=0.0)
    assert rewards(with_spool(tmp_path, scenario, limits).folder) == [1.0]


def test_a_full_spool_accepts_again_once_all_but_its_newest_segment_has_gone(
    tmp_path: Path,
) -> None:
    async def scenario(spool: Spool) -> None:
        while spool.refusal is None:
            await put_durably(spool, builders.outcome(decision_id=token_hex(60)))
            spool._measure()
        *shipped, _ = segment_paths(spool.folder)
        for path in shipped:
            path.unlink()
        spool._measure()
        assert await put_durably(spool, outcome(2.0)) is None

    with_spool(tmp_path, scenario, SpoolLimits(0.01, max_bytes=20_000, disk_free_share=0.0))


def test_a_disk_that_is_nearly_full_is_left_alone(tmp_path: Path) -> None:
    async def scenario(spool: Spool) -> None:
        with pytest.raises(SpoolFullError, match="disk_full"):
            put_durably(spool, outcome(1.0))

    # No disk is free to this share.
    with_spool(tmp_path, scenario, SpoolLimits(0.01, 2**30, disk_free_share=0.999999))


def test_a_record_that_cannot_be_written_is_told_of_and_stops_nothing(tmp_path: Path) -> None:
    async def scenario(spool: Spool) -> None:
        # No codec holds more than 64 bits; the routes refuse such a step.
        refusal = await put_durably(spool, builders.outcome(step=2**70, episode_id="e"))
        assert isinstance(refusal, SpoolFullError)
        assert await put_durably(spool, outcome(5.0)) is None

        slips = [RuntimeError("a slip in the maker of a record")]

        def fail() -> tuple[list[Outcome], list[Callable[[], None]]]:
            if slips:
                raise slips.pop()
            return [], []

        spool.add_source(fail)
        await asyncio.sleep(0.1)
        assert await put_durably(spool, outcome(6.0)) is None

    assert rewards(with_spool(tmp_path, scenario).folder) == [5.0, 6.0]


def test_a_folder_that_vanishes_is_told_of_and_stops_nothing(tmp_path: Path) -> None:
    async def scenario(spool: Spool) -> None:
        shutil.rmtree(spool.folder)
        refusal = await put_durably(spool, outcome(1.0))
        assert isinstance(refusal, SpoolFullError)
        spool.folder.mkdir()
        assert await put_durably(spool, outcome(2.0)) is None

    assert rewards(with_spool(tmp_path, scenario).folder) == [2.0]


def test_a_restart_finds_its_folder_and_counts_on(tmp_path: Path) -> None:
    async def scenario(spool: Spool) -> None:
        await put_durably(spool, outcome(float(spool.durable_sequence)))

    first = with_spool(tmp_path, scenario)
    second = with_spool(tmp_path, scenario)
    assert first.producer == second.producer
    assert rewards(second.folder) == [-1.0, 0.0]
    assert [sequence for sequence, _ in read_records(second.folder)] == [0, 1]


def test_two_owners_have_two_folders(tmp_path: Path) -> None:
    async def scenario(first: Spool) -> None:
        second = Spool(tmp_path, LIMITS, Metrics())
        assert second.producer != first.producer
        second.close()

    with_spool(tmp_path, scenario)


def test_a_torn_tail_is_cut_at_start(tmp_path: Path) -> None:
    async def scenario(spool: Spool) -> None:
        await put_durably(spool, outcome(1.0))

    folder = with_spool(tmp_path, scenario).folder
    (path,) = segment_paths(folder)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    with_spool(tmp_path, scenario)
    assert rewards(folder) == [1.0, 1.0]
    assert [sequence for sequence, _ in read_records(folder)] == [0, 1]


def test_over_http_a_full_log_is_507_and_actions_go_on(tmp_path: Path) -> None:
    declare(tmp_path)
    body = {"outcomes": [{"episode_id": "e", "step": 0, "reward": 1.0}]}
    with running(settings_for(tmp_path, disk_free_share=0.999999)) as service:
        refused = service.client.post("/v1/outcomes", json=body)
        assert (refused.status_code, refused.json()["code"]) == (507, "spool_full")
        assert service.act([[0, 0, 0, 0]]).json()["actions"] == [1]
        ready = service.client.get("/readyz")
        assert ready.status_code == 200
        assert "disk_full" in ready.json()["why"][-1]
        assert service.metric("dqn_records_dropped_total", reason="disk_full") == 2
        assert service.metric("dqn_outcomes_total", result="accepted") == 0
