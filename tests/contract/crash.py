"""A process that dies at its n-th look at, or change of, the file system below a folder.

Dying is `os._exit`: no `finally` runs, no buffer is flushed, as with kill -9.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_DIED = 137


def dies_at(act: Callable[[], object], folder: Path, operation: int) -> bool:
    """Run `act` in a forked process that dies before that operation; False where it outlived it."""

    def run() -> None:
        seen = 0

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if not event.startswith(("open", "os.", "shutil.")) or str(folder) not in str(
                arguments
            ):
                return
            seen += 1
            if seen == operation:
                os._exit(_DIED)

        sys.addaudithook(watch)
        act()

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    assert process.exitcode in (0, _DIED)
    return process.exitcode == _DIED
