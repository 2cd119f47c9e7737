"""How an episode earned its return: what tells a good episode from one that found a loophole.

Each sign is one number an episode, free of what the environment is. The reference keeps, for each,
what whole training episodes had, so that a policy that rightly repeats itself is not accused of it.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from contract.declaration import Fact
from contract.drift_reference import MIN_EPISODES, ColumnReference, Floats, bin_edges

MIN_STEPS: Final = 8
"""Shorter episodes have no pattern to speak of."""

_GRAM: Final = 4
_TILES: Final = 8
_AUDIT_BINS: Final = 4
_SLACK: Final = 0.1
"""By which an episode may go beyond all that training did."""
_EARNING_SHARE: Final = 0.75
_SMOOTHING: Final = 1.0


class AuditReference(Fact):
    """What episodes returned, by how they did in something that the reward does not pay for."""

    edges: tuple[float, ...]
    """Of the bins of the audit metric, about its quartiles."""
    highest_returns: tuple[float, ...]
    """Of each bin: beyond it a return has not been earned. The largest that training had there, and
    a tenth of the spread of all returns."""


class ConductReference(Fact):
    """What the signs of training's episodes were, and the limits drawn from them."""

    reward_edges: tuple[float, ...]
    """Of the bins of a step's reward."""
    reward_shares: tuple[float, ...]
    highest_reward: float
    """Of one step: training's largest, and a tenth of training's range."""
    lowest_earning_return: float
    """Three in four training episodes return more. A strange episode that earns less is a failure
    and no hack: loops and rewards are judged above it, by those that were above it."""
    highest_loop_share: float = Field(gt=0)
    """A tenth above training's largest."""
    highest_reward_distance: float = Field(gt=0)
    """A tenth above training's largest."""
    returns_by_length: AuditReference
    returns_by_audit: AuditReference | None = None


class Signs(NamedTuple):
    """Of one episode."""

    episode_return: float
    length: int
    largest_reward: float
    loop_share: float
    """Share of the steps that the commonest run of four (action, cell) pairs begins."""
    reward_distance: float
    """Of the distribution of rewards from training's: stability index times the square root of
    the steps, so that short episodes are not far for being short."""
    audit: float | None


def observation_cells(
    observations: npt.NDArray[Any], columns: Sequence[ColumnReference]
) -> npt.NDArray[np.int64]:
    """A coarse name for where each observation lies, [N]: terciles of each column, else tiles.

    Args:
        observations: [N, *shape].
        columns: The reference of vectors; empty for frames, which are averaged over 8 by 8 tiles.

    Returns:
        Zeros where there is neither.
    """
    if columns:
        flat = observations.reshape(len(observations), -1).astype(np.float64)
        edges = np.array([_terciles(column) for column in columns])
        levels = (flat[:, :, np.newaxis] > edges).sum(axis=2)
    elif observations.ndim > 2 and min(observations.shape[-2:]) >= _TILES:
        levels = _tile_levels(observations)
    else:
        return np.zeros(len(observations), dtype=np.int64)
    # A fixed random code for each place and level: equal cells, and as good as only those, agree.
    codes = np.random.default_rng(0).integers(2**62, size=(levels.shape[1], 256))
    return np.asarray(np.bitwise_xor.reduce(codes[np.arange(levels.shape[1]), levels], axis=1))


def signs_of(
    rewards: Floats,
    actions: npt.NDArray[np.int64],
    cells: npt.NDArray[np.int64],
    reference: ConductReference,
    audit: float | None = None,
) -> Signs:
    """The signs of one episode, [steps] each."""
    return _signs(rewards, actions, cells, (reference.reward_edges, reference.reward_shares), audit)


def make_reference(
    rewards: Floats,
    actions: npt.NDArray[np.int64],
    cells: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    audits: Floats | None = None,
) -> ConductReference | None:
    """Sum up whole episodes, [steps of all] and [episodes]; None where there are too few."""
    if len(lengths) < MIN_EPISODES:
        return None
    edges = np.unique(np.quantile(rewards, np.arange(1, 10) / 10))
    counts = np.bincount(np.searchsorted(edges, rewards, side="left"), minlength=len(edges) + 1)
    shares = (counts + _SMOOTHING) / (len(rewards) + _SMOOTHING * len(counts))
    bins = (tuple(edges.tolist()), tuple(shares.tolist()))
    ends = np.cumsum(lengths)[:-1]
    episodes = zip(
        np.split(rewards, ends), np.split(actions, ends), np.split(cells, ends), strict=True
    )
    signs = [_signs(*episode, bins, None) for episode in episodes]
    returns = np.array([each.episode_return for each in signs])
    lowest = float(np.quantile(returns, 1 - _EARNING_SHARE))
    earning = [each for each in signs if each.episode_return >= lowest]
    largest, smallest = float(rewards.max()), float(rewards.min())
    return ConductReference(
        reward_edges=bins[0],
        reward_shares=bins[1],
        highest_reward=largest + _SLACK * (largest - smallest),
        lowest_earning_return=lowest,
        highest_loop_share=_limit([each.loop_share for each in earning]),
        highest_reward_distance=_limit([each.reward_distance for each in earning]),
        returns_by_length=_audit_reference(lengths.astype(np.float64), returns),
        returns_by_audit=None if audits is None else _audit_reference(audits, returns),
    )


def highest_return(reference: AuditReference, audit: float) -> float:
    """What an episode with this audit may have returned."""
    return reference.highest_returns[int(np.searchsorted(reference.edges, audit, side="left"))]


def _signs(
    rewards: Floats,
    actions: npt.NDArray[np.int64],
    cells: npt.NDArray[np.int64],
    bins: tuple[tuple[float, ...], tuple[float, ...]],
    audit: float | None,
) -> Signs:
    return Signs(
        episode_return=float(rewards.sum()),
        length=len(rewards),
        largest_reward=float(rewards.max()),
        loop_share=_loop_share(actions, cells),
        reward_distance=_reward_distance(rewards, *bins),
        audit=audit,
    )


def _loop_share(actions: npt.NDArray[np.int64], cells: npt.NDArray[np.int64]) -> float:
    """Of the commonest run of four pairs; 0 where the episode is too short."""
    if len(actions) < MIN_STEPS:
        return 0.0
    pairs = cells * 31 + actions
    runs = np.lib.stride_tricks.sliding_window_view(pairs, _GRAM)
    # Wraps around on purpose: a hash of the run.
    hashes = (runs * np.array([1, 1_000_003, 998_244_353, 1_000_000_007])).sum(axis=1)
    return float(np.unique(hashes, return_counts=True)[1].max() / len(runs))


def _reward_distance(rewards: Floats, edges: Sequence[float], shares: Sequence[float]) -> float:
    if len(rewards) < MIN_STEPS:
        return 0.0
    counts = np.bincount(np.searchsorted(edges, rewards, side="left"), minlength=len(shares))
    found = (counts + _SMOOTHING) / (len(rewards) + _SMOOTHING * len(shares))
    expected = np.asarray(shares)
    index = float(((found - expected) * np.log(found / expected)).sum())
    return float(index * np.sqrt(len(rewards)))


def _limit(values: Sequence[float]) -> float:
    return (1 + _SLACK) * max(*values, 1e-3)


def _audit_reference(audits: Floats, returns: Floats) -> AuditReference:
    edges = bin_edges(audits, _AUDIT_BINS)
    bins = np.searchsorted(edges, audits, side="left")
    slack = _SLACK * float(np.ptp(returns))
    highest = [
        # Nothing was met there: only what no episode at all has returned is too much.
        float(returns[bins == number].max()) + slack
        if (bins == number).any()
        else float(returns.max()) + slack
        for number in range(len(edges) + 1)
    ]
    return AuditReference(edges=tuple(edges.tolist()), highest_returns=tuple(highest))


def _terciles(column: ColumnReference) -> tuple[float, float]:
    edges = column.edges
    return edges[len(edges) // 3], edges[2 * len(edges) // 3]


def _tile_levels(frames: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The last frame of each stack in 8 by 8 tiles of four levels, [N, 64]."""
    last = frames.reshape(len(frames), -1, *frames.shape[-2:])[:, -1].astype(np.float64)
    height, width = (size // _TILES * _TILES for size in last.shape[1:])
    tiles = last[:, :height, :width].reshape(
        len(last), _TILES, height // _TILES, _TILES, width // _TILES
    )
    return np.asarray(np.clip(tiles.mean(axis=(2, 4)) // 64, 0, 3).reshape(len(last), -1), int)
