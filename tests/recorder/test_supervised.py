"""The recorder as it runs on one box: beside real workers, started and stopped with them."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from contract.segments import segment_paths
from recorder.shards import raw_folder, shard_path
from tests.recorder.records import sealed_rewards
from tests.service.conftest import declare
from tests.service.process import Process, is_running, process
from tests.service.running import wait_until

BRISK = {"DQN_RECORD_SEAL_SECONDS": "0.1", "DQN_RECORD_METRICS_PORT": "0"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("box")


@pytest.fixture(scope="module")
def box(data: Path) -> Iterator[Process]:
    """One service for several tests, of which the last kills it."""
    with recorded(data) as service:
        yield service


@contextmanager
def recorded(data: Path, *flags: str, **variables: str) -> Iterator[Process]:
    declare(data)
    with process(data, "--record", *flags, **(BRISK | variables)) as service:
        service.wait_until_ready()
        wait_until(lambda: "recording" in service.log(), "the recorder runs")
        yield service


def report(service: Process, reward: float) -> None:
    body = {"outcomes": [{"episode_id": "e", "step": 0, "reward": reward}]}
    assert service.client.post("/v1/outcomes", json=body).status_code == 200


def rewards(data: Path) -> list[float]:
    return sorted(sealed_rewards(raw_folder(data / "shards", "cartpole")))


def recorder_of(service: Process) -> int:
    (pid,) = (
        pid
        for pid in service.workers()
        if b"recorder" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    )
    return pid


def test_one_box_seals_what_it_accepts_and_the_rest_when_it_stops(tmp_path: Path) -> None:
    with recorded(tmp_path) as service:
        report(service, 1.0)
        wait_until(lambda: rewards(tmp_path) == [1.0], "the first is sealed")
        pid = recorder_of(service)
        os.kill(pid, signal.SIGSTOP)
        report(service, 2.0)
        os.kill(pid, signal.SIGCONT)
        assert service.stop() == 0
        assert not is_running(pid)
        assert "Traceback" not in service.log()
    assert rewards(tmp_path) == [1.0, 2.0]
    (folder,) = (tmp_path / "spool").iterdir()
    assert len(segment_paths(folder)) == 1


def test_a_killed_recorder_is_started_anew_and_doubles_nothing(box: Process, data: Path) -> None:
    report(box, 1.0)
    wait_until(lambda: rewards(data) == [1.0], "the first is sealed")
    pid = recorder_of(box)
    os.kill(pid, signal.SIGKILL)
    report(box, 2.0)
    wait_until(lambda: rewards(data) == [1.0, 2.0], "the second, by a new one")
    assert recorder_of(box) != pid


def test_a_taken_port_stops_no_sealing_and_metrics_are_told_once_it_is_free(tmp_path: Path) -> None:
    declare(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        variables = BRISK | {"DQN_RECORD_METRICS_PORT": str(port)}
        with process(tmp_path, "--record", **variables) as service:
            service.wait_until_ready()
            wait_until(lambda: "metrics_not_told" in service.log(), "the recorder runs")
            report(service, 1.0)
            wait_until(lambda: rewards(tmp_path) == [1.0], "it is sealed")
            assert service.log().count("metrics_not_told") == 1
            other.close()
            wait_until(lambda: "recording" in service.log(), "metrics are told")
            told = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert "dqn_shards_total 1.0" in told


def test_a_recorder_that_hangs_ends_itself_and_says_where(tmp_path: Path) -> None:
    with recorded(tmp_path, DQN_RECORD_HANG_SECONDS="5") as service:
        report(service, 1.0)
        wait_until(lambda: rewards(tmp_path) == [1.0], "the first is sealed")
        pid = recorder_of(service)
        # A read that never returns, as of a network's file system: nobody writes into this pipe.
        pipe = shard_path(raw_folder(tmp_path / "shards", "cartpole"), 2)
        os.mkfifo(pipe)
        report(service, 2.0)
        wait_until(lambda: not is_running(pid), "it has ended itself")
        pipe.unlink()
        wait_until(lambda: rewards(tmp_path) == [1.0, 2.0], "the second, by a new one")
        said = service.log()
    assert "Timeout (0:00:05)!" in said
    assert "in read_manifest" in said
    assert re.search(r'"status": 1,.*"recorder_died"', said)


def test_a_second_recorder_of_the_same_spools_refuses_to_start(box: Process, data: Path) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "recorder", f"--data={data}", "--metrics-port=0"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert second.returncode == 1
    assert f"{data / 'spool'} is read by another recorder" in second.stderr
    before = len(rewards(data))
    report(box, 3.0)
    wait_until(lambda: len(rewards(data)) == before + 1, "the first goes on")


def test_a_recorder_goes_with_its_supervisor(box: Process) -> None:
    pid = recorder_of(box)
    box.kill_supervisor()
    wait_until(lambda: not is_running(pid), "the recorder is gone")
