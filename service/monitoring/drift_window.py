"""One signal's sampled rows, counted in the bins of its reference and judged a window at a time.

Three tests look at the same counts. `distribution` compares all bins (population stability index),
`level` the mean bin of this window, `trend` adds up the mean bins of all windows so far (CUSUM), so
that a drift too slow for any one window is seen. Each is held against a limit that accounts for
how many columns there are and for how much the rows of one episode repeat one another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from contract.cusum import cusum_limit
from contract.drift_reference import ColumnReference, Floats, find_bins
from service.monitoring.drift_limits import mixture_quantile, normal_quantile

TestName = Literal["distribution", "level", "trend"]
TESTS: Final[tuple[TestName, ...]] = ("distribution", "level", "trend")

SAMPLED_SHARE: Final = 1 / 50
"""Share of an episode's steps that is sampled, at most; the limits hold for it."""

WINDOWS_PER_FALSE_ALARM: Final = 17_280
"""Of each test, over all columns: half a year of windows of a quarter of an hour."""

_ALLOWANCE: Final = 0.5
_REFERENCE_MISSES: Final = 0.01
"""Probability, once per bundle, that some column's own reference error passes for a trend."""
_CAP: Final = 1.1
"""A CUSUM grows no further beyond its limit, so that it falls soon after the drift is over."""
_NUM_BINS: Final = 10


@dataclass(frozen=True)
class Scores:
    """What one test made of a window, column by column."""

    statistics: Floats
    limits: Floats

    @property
    def ratios(self) -> Floats:
        """Statistic over limit: 1 and more is an alarm."""
        return self.statistics / self.limits


class DriftWindow:
    """Owns the counts of one signal of one version."""

    def __init__(
        self, columns: Sequence[ColumnReference], num_tested: int, window_rows: int
    ) -> None:
        """Begin the first window.

        Args:
            columns: The signal's references, at least one.
            num_tested: Columns over all signals and monitors that share one rate of false alarms.
            window_rows: Sampled rows of a window.
        """
        self.rows = 0
        self.window_rows = window_rows
        self._columns = np.arange(len(columns))
        self._edges = np.full((len(columns), _NUM_BINS - 1), np.inf)
        self._shares = np.full((len(columns), _NUM_BINS), np.nan)
        for row, column in enumerate(columns):
            self._edges[row, : len(column.edges)] = column.edges
            self._shares[row, : len(column.shares)] = column.shares
        self._is_bin = ~np.isnan(self._shares)
        self._mean_bins = _each(columns, "mean_bin")
        independent, whole = _each(columns, "bin_variance"), _each(columns, "episode_bin_variance")
        # Rows kept at random vary by themselves, and as their episode does in so far as it is kept.
        own = (1 - SAMPLED_SHARE) / window_rows
        self._variances = own * independent + SAMPLED_SHARE / window_rows * whole
        self._reference_variances = whole / _each(columns, "rows")
        tail = 1 / (WINDOWS_PER_FALSE_ALARM * num_tested)
        self._index_limits = np.array(
            [_index_limit(column, window_rows, tail) for column in columns]
        )
        self._level_limits = np.full(len(columns), normal_quantile(tail / 2))
        error = np.sqrt(self._reference_variances / self._variances)
        self._allowances = _ALLOWANCE + normal_quantile(_REFERENCE_MISSES / 2 / num_tested) * error
        bar = cusum_limit(2 * num_tested * WINDOWS_PER_FALSE_ALARM, _ALLOWANCE)
        self._trend_limits = np.full(len(columns), bar)
        self._rising = np.zeros(len(columns))
        self._falling = np.zeros(len(columns))
        self._counts = np.zeros((len(columns), _NUM_BINS))

    @property
    def num_columns(self) -> int:
        """Columns that are watched."""
        return len(self._columns)

    def add(self, values: npt.NDArray[Any]) -> None:
        """Count sampled rows, [N, columns]."""
        bins = find_bins(values, self._edges) + self._columns * _NUM_BINS
        self._counts += np.bincount(bins.ravel(), minlength=self._counts.size).reshape(
            self._counts.shape
        )
        self.rows += len(values)

    def close(self) -> dict[TestName, Scores]:
        """Judge what was counted and begin the next window."""
        shares = self._counts / self.rows
        offsets = shares @ np.arange(_NUM_BINS) - self._mean_bins
        levels = np.abs(offsets) / np.sqrt(self._variances + self._reference_variances)
        steps = offsets / np.sqrt(self._variances)
        bar = _CAP * self._trend_limits
        self._rising = np.clip(self._rising + steps - self._allowances, 0, bar)
        self._falling = np.clip(self._falling - steps - self._allowances, 0, bar)
        scores = {
            "distribution": Scores(self._indices(), self._index_limits),
            "level": Scores(levels, self._level_limits),
            "trend": Scores(np.maximum(self._rising, self._falling), self._trend_limits),
        }
        self._counts[:] = 0
        self.rows = 0
        return {test: scores[test] for test in TESTS}

    def _indices(self) -> Floats:
        """Population stability index of each column, half a row added to each bin."""
        num_bins = self._is_bin.sum(axis=1, keepdims=True)
        shares = (self._counts + 0.5) / (self.rows + 0.5 * num_bins)
        terms = (shares - self._shares) * np.log(shares / self._shares)
        return np.asarray(np.where(self._is_bin, terms, 0.0).sum(axis=1))


def _index_limit(column: ColumnReference, rows: int, tail: float) -> float:
    """The index is a sum of squares, weighted by the variances of window and reference."""
    own = (1 - SAMPLED_SHARE) / rows
    shared = SAMPLED_SHARE / rows + 1 / column.rows
    degrees = column.degrees
    first, second, third = column.episode_effects
    sums = (
        own * degrees + shared * first,
        own**2 * degrees + 2 * own * shared * first + shared**2 * second,
        own**3 * degrees
        + 3 * own**2 * shared * first
        + 3 * own * shared**2 * second
        + shared**3 * third,
    )
    return mixture_quantile(tail, sums)


def _each(columns: Sequence[ColumnReference], field: str) -> Floats:
    return np.array([getattr(column, field) for column in columns], dtype=np.float64)
