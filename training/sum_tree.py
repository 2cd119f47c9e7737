"""A sum tree in numpy: draws leaves in proportion to their weights, many at a time.

Weights are whole numbers, so sums are exact: they do not drift however often weights change, a
leaf of weight 0 is never drawn, and a tree built again from its leaves is the same tree.
"""

import numpy as np
import numpy.typing as npt

FAN_OUT_BITS = 5
"""A node has 32 children: a batch goes down a level in a few calls, so few levels are fast."""

FAN_OUT = 1 << FAN_OUT_BITS
TOP_SIZE = 1024
"""The uppermost level has at most as many nodes; one search finds the right one."""

Weights = npt.NDArray[np.int64]
Leaves = npt.NDArray[np.int64]


class SumTree:
    """`capacity` leaves with a weight each, at first 0; each change or draw is O(log capacity)."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._levels: list[Weights] = []
        size = capacity
        while True:
            size = -(-size // FAN_OUT) * FAN_OUT
            self._levels.append(np.zeros(size, np.int64))
            if size <= TOP_SIZE:
                break
            size //= FAN_OUT
        # Which row of a batch wrote a leaf last; only then is its change counted.
        self._writer = np.zeros(capacity, np.int64)

    @property
    def weights(self) -> Weights:
        """Of all leaves, [capacity]; read only."""
        return self._levels[0][: self._capacity]

    @property
    def total(self) -> int:
        """The sum of all weights."""
        return int(self._levels[-1].sum())

    def set(self, leaves: Leaves, weights: Weights) -> None:
        """Give leaves, [N], new weights, [N] or one for all; the last one counts for a leaf."""
        rows = np.arange(len(leaves))
        self._writer[leaves] = rows
        bottom = self._levels[0]
        changes = weights - bottom[leaves]
        changes *= self._writer[leaves] == rows
        bottom[leaves] = weights
        nodes = leaves
        for level in self._levels[1:]:
            nodes = nodes >> FAN_OUT_BITS
            np.add.at(level, nodes, changes)

    def find(self, positions: Weights) -> Leaves:
        """The leaves at positions in [0, total), where each is as wide as its weight; [N]."""
        top = self._levels[-1]
        ends = top.cumsum()
        nodes = ends.searchsorted(positions, side="right")
        rest = positions - ends[nodes] + top[nodes]
        # Of each position's first child in flat arrays: plain takes cost least.
        firsts = np.arange(0, len(positions) * FAN_OUT, FAN_OUT)
        for level in self._levels[-2::-1]:
            children = level.reshape(-1, FAN_OUT).take(nodes, axis=0)
            ends = children.cumsum(axis=1)
            child = (ends > rest[:, np.newaxis]).argmax(axis=1)
            chosen = firsts + child
            rest = rest - ends.take(chosen) + children.take(chosen)
            nodes = nodes * FAN_OUT + child
        return nodes

    def rebuild(self, weights: Weights) -> None:
        """Take up all weights, [capacity], at once."""
        self._levels[0][: self._capacity] = weights
        for lower, upper in zip(self._levels, self._levels[1:], strict=False):
            upper[: len(lower) // FAN_OUT] = lower.reshape(-1, FAN_OUT).sum(axis=1)
