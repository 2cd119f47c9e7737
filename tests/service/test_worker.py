"""How a worker that cannot begin ends."""

import errno

import pytest

from service.keys import KeysError
from service.worker import MISCONFIGURED, status_of


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENOMEM])
def test_what_a_machine_lacks_for_a_while_is_tried_again(number: int) -> None:
    assert status_of(OSError(number, "for now")) not in (0, MISCONFIGURED)


@pytest.mark.parametrize(
    "error", [KeysError("no such file"), PermissionError(errno.EACCES, "not yours")]
)
def test_what_another_try_would_not_help_ends_the_service(error: Exception) -> None:
    assert status_of(error) == MISCONFIGURED
