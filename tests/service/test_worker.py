"""How a worker that cannot begin ends, and how one lets in who connects."""

import errno
import socket
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from service.keys import KeysError
from service.worker import MISCONFIGURED, status_of
from tests.service.running import WAIT_SECONDS, running, settings_for


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENOMEM])
def test_what_a_machine_lacks_for_a_while_is_tried_again(number: int) -> None:
    assert status_of(OSError(number, "for now")) not in (0, MISCONFIGURED)


@pytest.mark.parametrize(
    "error", [KeysError("no such file"), PermissionError(errno.EACCES, "not yours")]
)
def test_what_another_try_would_not_help_ends_the_service(error: Exception) -> None:
    assert status_of(error) == MISCONFIGURED


def test_a_crowd_that_connects_while_the_loop_is_busy_is_let_in_within_a_few_turns(
    tmp_path: Path,
) -> None:
    crowd, turns = 128, 0
    connected, all_in = threading.Event(), threading.Event()
    with running(settings_for(tmp_path)) as service, ExitStack() as stack:
        loop, connections = service.loop, service.connections

        def turn() -> None:
            nonlocal turns
            turns += 1
            if len(connections) < crowd:
                loop.call_soon(turn)
            else:
                all_in.set()

        def wait_for_crowd() -> None:
            connected.wait(WAIT_SECONDS)
            turn()

        loop.call_soon_threadsafe(wait_for_crowd)
        for _ in range(crowd):
            stack.enter_context(socket.create_connection(("127.0.0.1", service.port)))
        connected.set()
        assert all_in.wait(WAIT_SECONDS)
    # One at a time would take a turn each.
    assert turns < crowd / 4
