"""Fixed thresholds, tuned as well as they can be for a rate of false rollbacks."""

from collections.abc import Sequence
from itertools import product
from typing import Final

import numpy as np

from benchmarks.canary.rivals import Counts, Floats, Threshold, window_means

_WINDOWS: Final = (5, 10, 20, 40)
_FAILURES: Final = (0, 1, 2, 3)


class Sample:
    """Returns of one world: of a canary as good as stable, and of one that is worse."""

    def __init__(self, equal: Floats, worse: Floats) -> None:
        """Of shape [R, N] each."""
        self.equal = equal
        self.worse = worse
        self.mean = float(equal.mean())


def tuned(
    samples: Sequence[Sample], rate: float
) -> tuple[tuple[int, int, float], Sequence[Counts]]:
    """The window, failures and distance below the mean that lose least over all the samples.

    No sample has more false rollbacks than `rate`; also the episodes to rollback in each.
    """
    best: tuple[float, tuple[int, int, float], list[Counts]] | None = None
    for window, failures in product(_WINDOWS, _FAILURES):
        distance = max(_distance(sample, window, failures, rate) for sample in samples)
        found = [
            Threshold(window, failures, sample.mean - distance)(sample.worse, sample.worse)
            for sample in samples
        ]
        lost = float(sum(counts.mean() for counts in found))
        if best is None or lost < best[0]:
            best = lost, (window, failures, distance), found
    assert best is not None
    return best[1], best[2]


def _distance(sample: Sample, window: int, failures: int, rate: float) -> float:
    """How far below the mean a window may fall: seldom does one window too many fall further."""
    means = np.sort(window_means(sample.equal, window), axis=1)
    # The rollout is rolled back where its (failures + 1) lowest windows are all below.
    decisive = means[:, failures]
    return sample.mean - float(np.quantile(decisive, rate))
