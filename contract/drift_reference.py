"""What the columns of a policy's observations, features and Q-values look like when all is well.

A column is cut into bins at its deciles. Beside the share of each bin stands how far rows of one
episode repeat one another: without it, twenty episodes of five hundred steps would pass for ten
thousand independent rows, and every threshold drawn from them would be wrong.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from contract.declaration import Fact

MIN_EPISODES: Final = 20
"""Fewer do not tell how much alike the rows of one episode are."""

_LEAST_BIN_VARIANCE: Final = 0.02
"""Of a column that is nearly constant: a handful of rare rows is not a drift."""

Floats = npt.NDArray[np.float64]


class ColumnReference(Fact):
    """One column: its bins, and what a share of a bin is worth as evidence."""

    edges: tuple[float, ...] = Field(max_length=9)
    """Upper edges of all bins but the last, ascending; a value on an edge is below it."""
    shares: tuple[float, ...] = Field(min_length=1, max_length=10)
    """Of each bin, half a row added to each so that none is zero."""
    rows: int = Field(ge=1)
    """Steps that were counted."""
    degrees: int = Field(ge=1)
    """Bins that were met, less one."""
    episode_effects: tuple[float, float, float]
    """Sum of the design effects of whole episodes over all directions in which shares can move, of
    their squares and of their cubes; of independent rows each is `degrees`."""
    mean_bin: float = Field(ge=0)
    """Mean index of the bins."""
    bin_variance: float = Field(gt=0)
    """Of the index, were rows independent."""
    episode_bin_variance: float = Field(gt=0)
    """Of the index, a row of whole episodes."""

    @model_validator(mode="after")
    def _fits(self) -> "ColumnReference":
        if len(self.shares) != len(self.edges) + 1:
            raise ValueError(f"{len(self.edges)} edges make no {len(self.shares)} bins")
        return self


class DriftReference(Fact):
    """The columns of each signal; a signal without columns is not watched."""

    observations: tuple[ColumnReference, ...] = ()
    """Empty for frames, whose pixels say nothing one by one."""
    features: tuple[ColumnReference, ...] = ()
    q_values: tuple[ColumnReference, ...] = ()


def make_columns(
    values: npt.NDArray[Any], lengths: npt.NDArray[np.int64]
) -> tuple[ColumnReference, ...]:
    """Sum up the columns of whole episodes.

    Args:
        values: [N, columns], the steps of one episode after those of another.
        lengths: Steps of each episode; they add up to N.

    Returns:
        One reference a column; none where there are fewer than 20 episodes.
    """
    if len(lengths) < MIN_EPISODES:
        return ()
    episodes = np.repeat(np.arange(len(lengths)), lengths)
    return tuple(_make_column(column, episodes, lengths) for column in values.astype(np.float64).T)


def bin_edges(column: Floats, num_bins: int = 10) -> Floats:
    """At most `num_bins` - 1. A value that takes several quantiles for itself gets its own bin."""
    quantiles = np.quantile(column, np.arange(1, num_bins) / num_bins)
    values, counts = np.unique(quantiles, return_counts=True)
    below = np.nextafter(values[counts > 1], -np.inf)
    return np.sort(np.concatenate([values, below]))


def find_bins(values: npt.NDArray[Any], edges: Floats) -> npt.NDArray[np.intp]:
    """The bin of each value, [N, columns], given [columns, 9] edges with infinity for none."""
    return np.asarray((values[:, :, np.newaxis] > edges).sum(axis=2))


def _make_column(
    column: Floats, episodes: npt.NDArray[np.intp], lengths: npt.NDArray[np.int64]
) -> ColumnReference:
    edges = bin_edges(column)
    num_bins, num_rows = len(edges) + 1, len(column)
    bins = np.searchsorted(edges, column, side="left")
    counts = np.bincount(episodes * num_bins + bins, minlength=len(lengths) * num_bins)
    by_episode = counts.reshape(len(lengths), num_bins).astype(np.float64)
    totals = by_episode.sum(axis=0)
    shares = (totals + 0.5) / (num_rows + 0.5 * num_bins)

    true_shares = totals / num_rows
    independent = np.diag(true_shares) - np.outer(true_shares, true_shares)
    excess = by_episode - np.outer(lengths, true_shares)
    whole = excess.T @ excess / num_rows
    scaled = whole / np.sqrt(np.outer(shares, shares))
    squared = scaled @ scaled

    index = np.arange(num_bins, dtype=np.float64)
    return ColumnReference(
        edges=tuple(edges.tolist()),
        shares=tuple(shares.tolist()),
        rows=num_rows,
        degrees=max(1, int((totals > 0).sum()) - 1),
        episode_effects=(
            float(np.trace(scaled)),
            float(np.trace(squared)),
            float(np.trace(squared @ scaled)),
        ),
        mean_bin=float(index @ true_shares),
        bin_variance=max(_LEAST_BIN_VARIANCE, float(index @ independent @ index)),
        episode_bin_variance=max(_LEAST_BIN_VARIANCE, float(index @ whole @ index)),
    )
