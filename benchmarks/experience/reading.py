"""Reading a dataset back, in a process of its own, so that its memory is only that."""

import resource
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recorder.dataset.load import Dataset, read_dataset
from recorder.dataset.store import DatasetStore

_BATCH = 256


class ReadingResult(NamedTuple):
    """What one way of reading cost."""

    transitions: int
    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int
    """Resident memory at its highest, the interpreter and its packages included."""


def read_in_order(root: Path, policy: str) -> ReadingResult:
    """Every transition once, observations and next observations as whole stacks."""
    return _in_own_process(_read_in_order, root, policy)


def read_at_random(root: Path, policy: str, num_batches: int) -> ReadingResult:
    """Batches drawn at random from all transitions, the observations held compressed."""
    return _in_own_process(_read_at_random, root, policy, num_batches)


def _in_own_process(
    read: Callable[..., ReadingResult], *arguments: Path | str | int
) -> ReadingResult:
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(read, arguments)


def _read_in_order(root: Path, policy: str) -> ReadingResult:
    watch = _Watch()
    transitions = sum(len(batch.actions) for batch in _dataset(root, policy, 0).batches(_BATCH))
    return watch.result(transitions)


def _read_at_random(root: Path, policy: str, num_batches: int) -> ReadingResult:
    sampler = _dataset(root, policy, 0).sampler()
    rng = np.random.default_rng(0)
    watch = _Watch()
    for _ in range(num_batches):
        sampler.sample(_BATCH, rng)
    return watch.result(num_batches * _BATCH)


def _dataset(root: Path, policy: str, max_held_bytes: int) -> Dataset:
    return read_dataset(DatasetStore(root), policy, max_held_bytes=max_held_bytes)


class _Watch:
    """Time since it was made."""

    def __init__(self) -> None:
        self._cpu = time.process_time()
        self._wall = time.perf_counter()

    def result(self, transitions: int) -> ReadingResult:
        """What it took to read so many."""
        return ReadingResult(
            transitions=transitions,
            cpu_seconds=time.process_time() - self._cpu,
            wall_seconds=time.perf_counter() - self._wall,
            # Linux counts in KiB.
            peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        )
