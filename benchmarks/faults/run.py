"""One run: a ring, its traffic, so many faults, and the books at the end."""

import random
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.faults.load import Load
from benchmarks.faults.matrix import faults_for
from benchmarks.faults.ring import Ring, wait_until
from benchmarks.faults.verdict import Verdict, check

_DISK_BYTES: Final = 512 * 1024**2
_MOST_PAUSE_SECONDS: Final = 0.3


class RunResult(NamedTuple):
    """What one run did, and found."""

    faults: Counter[str]
    verdict: Verdict
    seconds: float
    failed_requests: int


def run_faults(
    num_faults: int, redis_binary: str | None, seed: int, *, small_disk: bool = True
) -> RunResult:
    """Strike a ring `num_faults` times under traffic; then let it recover, and count."""
    rng = random.Random(seed)
    struck: Counter[str] = Counter()
    began = time.monotonic()
    with _folders(small_disk) as (data, scratch, is_small_disk):
        ring = Ring(data, scratch, redis_binary)
        load = Load(lambda: ring.port, num_threads=3, pause_seconds=0.01)
        try:
            wait_until(ring.is_answering, "the service answers")
            load.start()
            faults = faults_for(ring, is_small_disk=is_small_disk)
            weights = [fault.weight for fault in faults]
            for _ in range(num_faults):
                _let_some_in(load)
                time.sleep(rng.uniform(0.0, _MOST_PAUSE_SECONDS))
                (fault,) = rng.choices(faults, weights)
                fault.strike(ring, rng)
                struck[fault.name] += 1
            _let_some_in(load)
            load.stop()
            ring.drain()
            verdict = check(data / "shards", load.accepted)
            if verdict.lost or verdict.doubled:
                _show_logs(scratch)
        except BaseException:
            load.stop()
            _show_logs(scratch)
            raise
        finally:
            ring.close()
    return RunResult(struck, verdict, time.monotonic() - began, load.num_failed)


def _let_some_in(load: Load) -> None:
    """A fault that strikes while nothing is accepted proves nothing."""
    before = len(load.accepted)
    wait_until(lambda: len(load.accepted) > before, "something is accepted again")


@contextmanager
def _folders(small_disk: bool) -> Iterator[tuple[Path, Path, bool]]:
    """Data, on a small disk of its own where one may be mounted; and room for all else."""
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        data, scratch = Path(name) / "data", Path(name) / "scratch"
        data.mkdir()
        scratch.mkdir()
        is_mounted = small_disk and _mount(data)
        try:
            yield data, scratch, is_mounted
        finally:
            if is_mounted:
                subprocess.run(["umount", "--lazy", str(data)], check=True)


def _mount(folder: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(folder)]
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def _show_logs(scratch: Path) -> None:
    for path in sorted(scratch.glob("*.log")):
        tail = path.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        print(f"--- {path.name}", *tail, sep="\n")
