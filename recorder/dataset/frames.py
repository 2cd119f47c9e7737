"""Observations of one episode, each frame stored once, in compressed chunks of a bounded size.

A stack shows all but its newest frame a second time. It is kept as the row of that frame, and is
the `depth` rows that end there. Where a stack does not follow from the one before it, all of it is
stored: so an episode's first stack is restored as it was acted on, however its missing frames were
filled, and so is whatever follows a lost step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import zstandard

UNKNOWN_ROW: Final = -1
"""Stands for an observation that is not known."""

_CHUNK_BYTES: Final = 256 * 1024
"""Of a chunk, unpacked: what one observation drawn at random costs to read. Pong's frames take 26 B
each in chunks eight times as large, and a third more in these."""
_MAX_CHUNK_ROWS: Final = 4096
_LONGEST_STACK: Final = 16
_LEVEL: Final = 6
"""Of zstd: a quarter smaller than level 3 and still 150,000 frames a second; level 9 gains 4 %."""


@dataclass(frozen=True)
class Chunk:
    """Rows that are compressed together."""

    num_rows: int
    content: bytes
    """zstd over the rows, C order, little-endian."""


@dataclass(frozen=True)
class FrameLayout:
    """How the observations of a dataset are cut into rows."""

    shape: tuple[int, ...]
    """Of one observation."""
    dtype: str

    @property
    def depth(self) -> int:
        """Rows of one observation."""
        # A matrix may be as flat as a stack of vectors; what is small is not worth a guess.
        if len(self.shape) < 3 or self.shape[0] > _LONGEST_STACK:
            return 1
        return self.shape[0]

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return self.shape if self.depth == 1 else self.shape[1:]

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """Little-endian, as it is stored."""
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def chunk_rows(self) -> int:
        """Rows of one chunk, at most."""
        row_bytes = self.numpy_dtype.itemsize * int(np.prod(self.row_shape))
        return max(1, min(_MAX_CHUNK_ROWS, _CHUNK_BYTES // max(1, row_bytes)))


class FramePacker:
    """Packs the observations of one episode as they come; full chunks are compressed at once."""

    def __init__(self, layout: FrameLayout) -> None:
        self._layout = layout
        self._waiting: list[npt.NDArray[Any]] = []
        self._latest: npt.NDArray[Any] | None = None
        self._chunks: list[Chunk] = []
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self.num_rows = 0
        self.num_bytes = 0
        """Memory held."""

    def add(self, observation: npt.NDArray[Any]) -> int:
        """Take an observation [*shape]; the row that it ends at.

        Raises:
            ValueError: It is not of the layout's shape and dtype.
        """
        layout = self._layout
        if observation.shape != layout.shape or observation.dtype != layout.numpy_dtype:
            raise ValueError(
                f"expected {layout.dtype} of shape {layout.shape}, "
                f"found {observation.dtype} of shape {observation.shape}"
            )
        latest, self._latest = self._latest, observation
        if latest is not None and _same(latest, observation):
            return self.num_rows - 1
        if layout.depth == 1:
            self._append([observation])
        elif latest is not None and _same(latest[1:], observation[:-1]):
            self._append([observation[-1]])
        else:
            self._append(list(observation))
        return self.num_rows - 1

    def read(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Observations that were packed, by the rows that `add` told, [N, *shape]."""
        return FrameReader.of(self._layout, [*self._chunks, *self._last_chunk()]).read(rows)

    def finish(self) -> list[Chunk]:
        """Every chunk, in order; the packer is not used again."""
        return [*self._chunks, *self._last_chunk()]

    def _append(self, rows: list[npt.NDArray[Any]]) -> None:
        # Copies, since a view would hold the whole stack it is of.
        self._waiting += [row.copy() for row in rows]
        self.num_rows += len(rows)
        self.num_bytes += sum(row.nbytes for row in rows)
        size = self._layout.chunk_rows
        while len(self._waiting) >= size:
            full, self._waiting = self._waiting[:size], self._waiting[size:]
            chunk = self._chunk(full)
            self._chunks.append(chunk)
            self.num_bytes += len(chunk.content) - sum(row.nbytes for row in full)

    def _last_chunk(self) -> list[Chunk]:
        return [self._chunk(self._waiting)] if self._waiting else []

    def _chunk(self, rows: list[npt.NDArray[Any]]) -> Chunk:
        return Chunk(len(rows), self._compressor.compress(np.stack(rows).tobytes()))


class FrameReader:
    """Restores observations from chunks, bit-equal.

    Chunks are unpacked as they are asked for and kept while they fit into `max_held_bytes`. What
    does not fit is unpacked anew each time, which costs a random draw about 0.05 ms for frames.
    """

    def __init__(
        self,
        layout: FrameLayout,
        contents: Sequence[Any],
        num_rows: npt.NDArray[np.int64],
        max_held_bytes: int = 0,
    ) -> None:
        self._layout = layout
        self._contents = contents
        self._first_rows = np.concatenate(([0], np.cumsum(num_rows)))
        self._held: dict[int, npt.NDArray[Any]] = {}
        self._free_bytes = max_held_bytes
        self._decompressor = zstandard.ZstdDecompressor()

    @classmethod
    def of(cls, layout: FrameLayout, chunks: Sequence[Chunk]) -> "FrameReader":
        """Over chunks as a packer gives them."""
        counts = np.array([chunk.num_rows for chunk in chunks], np.int64)
        return cls(layout, [chunk.content for chunk in chunks], counts)

    def read(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Observations that end at these rows, [N, *shape]; zeros where a row is UNKNOWN_ROW."""
        layout = self._layout
        known = rows != UNKNOWN_ROW
        if not known.any():
            return np.zeros((len(rows), *layout.shape), layout.numpy_dtype)
        # An unknown observation is read as the first known one is, and blanked.
        wanted = np.where(known, rows, rows[known][0])[:, None] + np.arange(1 - layout.depth, 1)
        found = self._gather(wanted).reshape(len(rows), *layout.shape)
        found[~known] = 0
        return found

    def _gather(self, wanted: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Single rows, [*wanted.shape, *row_shape]."""
        owners = np.searchsorted(self._first_rows, wanted, side="right") - 1
        order = np.argsort(owners, axis=None, kind="stable")
        chunks, begins = np.unique(owners.flat[order], return_index=True)
        # Of each chunk, what lies between the first and the last row wanted is brought together.
        lows = np.minimum.reduceat(wanted.flat[order], begins)
        highs = np.maximum.reduceat(wanted.flat[order], begins) + 1
        pieces = [
            self._unpack(chunk)[low:high]
            for chunk, low, high in zip(
                chunks.tolist(),
                lows - self._first_rows[chunks],
                highs - self._first_rows[chunks],
                strict=True,
            )
        ]
        together = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        shifts = np.cumsum([0, *(highs - lows)[:-1]]) - lows
        gathered: npt.NDArray[Any] = together[wanted + shifts[np.searchsorted(chunks, owners)]]
        return gathered

    def _unpack(self, chunk: int) -> npt.NDArray[Any]:
        held = self._held.get(chunk)
        if held is not None:
            return held
        content = self._decompressor.decompress(memoryview(self._contents[chunk]))
        num_rows = int(self._first_rows[chunk + 1] - self._first_rows[chunk])
        rows = np.frombuffer(content, self._layout.numpy_dtype)
        rows = rows.reshape(num_rows, *self._layout.row_shape)
        if rows.nbytes <= self._free_bytes:
            self._free_bytes -= rows.nbytes
            self._held[chunk] = rows
        return rows


def _same(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    """Bit for bit: -0.0 is not 0.0, and a NaN is itself."""
    if one is other:
        return True
    return np.array_equal(one.reshape(-1).view(np.uint8), other.reshape(-1).view(np.uint8))
