"""What ends a recorder that hangs: it would keep its locks, and nobody else could go on.

The thread that waits is the interpreter's own (`faulthandler`), so that neither a call that never
returns nor one that keeps the interpreter's lock can stop it.
"""

import faulthandler
from typing import Final

_STANDARD_ERROR: Final = 2


class Watchdog:
    """Ends the process with status 1 and every thread's stack where nothing moves for too long."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def turn(self) -> None:
        """Something moved: wait anew."""
        faulthandler.dump_traceback_later(self._seconds, exit=True, file=_STANDARD_ERROR)

    def rest(self) -> None:
        """Nothing need move until the next turn."""
        faulthandler.cancel_dump_traceback_later()
