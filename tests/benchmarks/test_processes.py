"""Real processes, started and stopped."""

import sys
import time

import pytest

from benchmarks.serving.processes import StartError, process_tree, server_process
from tests.service.process import is_running


def test_a_server_that_ends_tells_what_it_said() -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such model')"]
    with (
        pytest.raises(StartError, match="no such model"),
        server_process(command, lambda: False, seconds=30),
    ):
        pass


def test_a_detached_worker_belongs_to_its_server_and_ends_with_it() -> None:
    detach = (
        "import subprocess, sys, time; "
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], "
        "start_new_session=True); time.sleep(60)"
    )
    pids: set[int] = set()
    with server_process([sys.executable, "-c", detach], lambda: True, seconds=30) as pid:
        until = time.monotonic() + 30
        while len(pids := process_tree(pid)) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        assert len(pids) == 2
    assert not any(map(is_running, pids))
