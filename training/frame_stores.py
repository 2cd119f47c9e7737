"""Where the replay keeps single frames: as they are, or compressed."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import zstandard
from torch import Tensor

COMPRESSION_LEVEL = 3
"""Frames of Pong and Breakout take 170 and 280 of 7,056 bytes; higher levels gain little."""

Slots = npt.NDArray[np.int64]


class FrameStore(Protocol):
    """`capacity` frames of one shape, in slots."""

    def write(self, slots: Slots, frames: npt.NDArray[Any]) -> None:
        """Put frames, [N, *frame_shape], in slots, [N]."""

    def read(self, slots: Slots) -> Tensor:
        """Frames of slots that were written, [N, *frame_shape]."""

    def tensors(self, slots: Slots) -> dict[str, Tensor]:
        """The frames in these slots, for `load_tensors`."""

    def load_tensors(self, slots: Slots, tensors: dict[str, Tensor]) -> None:
        """Put what `tensors` gave back in these slots."""


class RawFrames:
    """Frames as they are. Memory is taken from the system as slots are first written."""

    def __init__(self, capacity: int, frame_shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self._array = np.zeros((capacity, *frame_shape), dtype)
        # The same memory: torch copies rows faster than numpy does.
        self._tensor = torch.from_numpy(self._array)

    def write(self, slots: Slots, frames: npt.NDArray[Any]) -> None:
        """Put frames, [N, *frame_shape], in slots, [N]."""
        self._array[slots] = frames

    def read(self, slots: Slots) -> Tensor:
        """Frames of these slots, [N, *frame_shape]."""
        return self._tensor.index_select(0, torch.from_numpy(slots))

    def tensors(self, slots: Slots) -> dict[str, Tensor]:
        """The frames in these slots, for `load_tensors`."""
        return {"frames": self.read(slots)}

    def load_tensors(self, slots: Slots, tensors: dict[str, Tensor]) -> None:
        """Put what `tensors` gave back in these slots."""
        self.write(slots, tensors["frames"].numpy())


class CompressedFrames:
    """Each frame compressed by itself, so that any can be read alone."""

    def __init__(self, capacity: int, frame_shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self._frame_shape = frame_shape
        self._dtype = np.dtype(dtype)
        self._compressed = np.empty(capacity, np.object_)
        self._compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL)
        self._decompressor = zstandard.ZstdDecompressor()

    @property
    def num_bytes(self) -> int:
        """Compressed bytes of all frames, without what Python takes to hold them."""
        return sum(len(frame) for frame in self._compressed if frame is not None)

    def write(self, slots: Slots, frames: npt.NDArray[Any]) -> None:
        """Put frames, [N, *frame_shape], in slots, [N]."""
        for slot, frame in zip(slots.tolist(), frames, strict=True):
            self._compressed[slot] = self._compressor.compress(frame.tobytes())

    def read(self, slots: Slots) -> Tensor:
        """Frames of these slots, [N, *frame_shape]."""
        frames = np.empty((len(slots), *self._frame_shape), self._dtype)
        # Straight to its place: joined first, large batches would be written three times over.
        content = frames.reshape(-1).view(np.uint8).data
        size = len(content) // max(1, len(slots))
        for number, compressed in enumerate(self._compressed[slots].tolist()):
            start = number * size
            content[start : start + size] = self._decompressor.decompress(compressed)
        return torch.from_numpy(frames)

    def tensors(self, slots: Slots) -> dict[str, Tensor]:
        """The frames in these slots, still compressed, for `load_tensors`."""
        frames: list[bytes] = self._compressed[slots].tolist()
        return {
            "lengths": torch.tensor([len(frame) for frame in frames], dtype=torch.int64),
            "content": torch.from_numpy(np.frombuffer(bytearray(b"".join(frames)), np.uint8)),
        }

    def load_tensors(self, slots: Slots, tensors: dict[str, Tensor]) -> None:
        """Put what `tensors` gave back in these slots."""
        content = tensors["content"].numpy().tobytes()
        ends = tensors["lengths"].cumsum(0).tolist()
        starts = [0, *ends][: len(ends)]
        for slot, start, end in zip(slots.tolist(), starts, ends, strict=True):
            self._compressed[slot] = content[start:end]
