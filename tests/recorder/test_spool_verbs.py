import fcntl
import os
import socket
from pathlib import Path

import fsspec
import pytest
import redis

from cli.spool import main
from contract.files import replace_file
from contract.records import encode_record
from contract.routing import route_content
from contract.segment_reader import SHIPPED_FILE, read_shipped
from contract.segments import segment_paths
from recorder.audit import audit_shards
from recorder.seal import Sealer
from recorder.shard_log import ShardLog
from recorder.shards import raw_folder
from recorder.sources import Spools
from tests.builders import outcome, transition_record
from tests.recorder.records import sealable, sealed_rewards
from tests.recorder.test_seal import NOW, spool
from tests.recorder.test_streams import ship, streams


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A producer that is gone, with records 0, 1, 2 and one of another policy."""
    rewards = (outcome(float(reward), decision_id="d") for reward in range(3))
    return spool(tmp_path / "spool" / "gone", *rewards, transition_record(policy="pong"))


def shards(tmp_path: Path) -> Path:
    return tmp_path / "shards"


def rewards(tmp_path: Path) -> list[float]:
    return sealed_rewards(raw_folder(shards(tmp_path), "cartpole"))


def run(tmp_path: Path, *arguments: str) -> int:
    return main(["--shards", str(shards(tmp_path)), *arguments])


def test_draining_seals_what_an_orphan_holds_and_removes_it(tmp_path: Path, folder: Path) -> None:
    assert run(tmp_path, "drain", str(folder)) == 0
    assert rewards(tmp_path) == [0.0, 1.0, 2.0]
    assert audit_shards(shards(tmp_path)).is_clean
    assert not folder.exists()


@pytest.mark.parametrize("verb", [("drain",), ("seal", "--to", "memory://never")])
def test_a_spool_that_a_worker_holds_is_left_alone(
    tmp_path: Path, folder: Path, verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    descriptor = os.open(folder / "owner.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert run(tmp_path, verb[0], str(folder), *verb[1:]) == 1
    assert "belongs to a running worker" in capsys.readouterr().err
    assert len(segment_paths(folder)) == 4
    os.close(descriptor)


def test_what_was_put_away_frees_the_disk_and_is_passed_over_by_the_owner_to_come(
    tmp_path: Path, folder: Path
) -> None:
    url = f"memory://{tmp_path.name}"
    assert run(tmp_path, "seal", str(folder), "--to", url) == 0
    assert len(segment_paths(folder)) == 1
    assert read_shipped(folder) == 3
    spool(folder, outcome(4.0, decision_id="d"))
    Sealer(shards(tmp_path), Spools(tmp_path / "spool"), 10**6, "me").seal(NOW)
    # Later records of the producer are in the log before those that were put away.
    assert rewards(tmp_path) == [4.0]
    assert run(tmp_path, "drain", url) == 0
    assert sorted(rewards(tmp_path)) == [0.0, 1.0, 2.0, 4.0]
    assert audit_shards(shards(tmp_path)).is_clean
    files, root = fsspec.core.url_to_fs(url)
    assert files.glob(f"{root}/*/*.shard") == []


def test_what_the_log_has_already_is_not_taken_back_again(tmp_path: Path, folder: Path) -> None:
    url = str(tmp_path / "archive")
    ShardLog(shards(tmp_path), "cartpole").append([sealable(1, producer="gone")], NOW, "me")
    assert run(tmp_path, "seal", str(folder), "--to", url) == 0
    assert run(tmp_path, "drain", url) == 0
    assert sorted(rewards(tmp_path)) == [0.0, 1.0, 2.0]
    assert audit_shards(shards(tmp_path)).is_clean


def test_a_spool_that_was_shipped_in_part_is_put_away_from_there_on(
    tmp_path: Path, folder: Path
) -> None:
    replace_file(folder / SHIPPED_FILE, b"1")
    url = str(tmp_path / "archive")
    run(tmp_path, "seal", str(folder), "--to", url)
    run(tmp_path, "drain", url, "--redis-is-gone")
    assert rewards(tmp_path) == [2.0]


@pytest.mark.parametrize("is_archived", [False, True])
def test_what_redis_still_holds_of_it_is_sealed_before_an_orphan_is_drained(
    tmp_path: Path,
    folder: Path,
    redis_client: "redis.Redis",
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_archived: bool,
) -> None:
    content = encode_record(outcome(1.0, decision_id="d"))
    ((_, partition, _),) = route_content("gone", content)
    ship(redis_client, 0.0, 1.0, partition=partition, producer="gone")
    ship(redis_client, 0.0, partition=partition, producer="another")
    replace_file(folder / SHIPPED_FILE, b"1")
    source = str(folder)
    if is_archived:
        source = str(tmp_path / "archive")
        run(tmp_path, "seal", str(folder), "--to", source)
    assert run(tmp_path, "drain", source) == 1
    assert "set DQN_RECORD_REDIS_URL" in capsys.readouterr().err
    port = redis_client.connection_pool.connection_kwargs["port"]
    monkeypatch.setenv("DQN_RECORD_REDIS_URL", f"redis://127.0.0.1:{port}")
    assert run(tmp_path, "drain", source) == 1
    assert "2 records of it wait in Redis" in capsys.readouterr().err
    assert rewards(tmp_path) == []
    Sealer(shards(tmp_path), streams(redis_client), 10**6, "me").seal(NOW)
    assert run(tmp_path, "drain", source) == 0
    assert sorted(rewards(tmp_path)) == [0.0, 0.0, 1.0, 2.0]


def test_an_orphan_is_not_drained_while_redis_does_not_answer(
    tmp_path: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    replace_file(folder / SHIPPED_FILE, b"1")
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    monkeypatch.setenv("DQN_RECORD_REDIS_URL", f"redis://127.0.0.1:{port}")
    assert run(tmp_path, "drain", str(folder)) == 1
    assert "is not known" in capsys.readouterr().err
    assert run(tmp_path, "drain", str(folder), "--redis-is-gone") == 0
    assert rewards(tmp_path) == [2.0]


def test_dead_letters_are_shown_with_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spool(tmp_path / "spool" / "a", b"\xc1 unreadable")
    Sealer(shards(tmp_path), Spools(tmp_path / "spool"), 10**6, "me").seal(NOW)
    assert run(tmp_path, "dead-letters", "--out", str(tmp_path / "out")) == 0
    said = capsys.readouterr().out
    assert "1 dead letters" in said
    assert "unreadable" in said
    assert (tmp_path / "out" / "a-0").read_bytes() == b"\xc1 unreadable"
