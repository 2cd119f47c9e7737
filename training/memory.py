"""Memory that is freed stays with the process, so that no update pages it in anew."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of mallopt(3)."""

_LARGEST_KEPT_BYTES = 1 << 25
"""The most that every release of glibc takes; what is larger goes back to the system at once."""

_KEPT_BYTES = 1 << 29


def keep_freed_memory() -> bool:
    """Ask glibc not to hand freed arrays back; true where there was a glibc to ask.

    A gradient of the Nature network is 7 MB that each update frees and the next one takes again:
    as fresh pages of the system, which zeroes them, that is a seventh of an update's time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    taken = [
        mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES),
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES),
    ]
    return all(taken)
