"""Screens to frames to stacks: the same in training, at serving and in what is learned later.

All arithmetic on pixels is of whole numbers: a screen gives the same bytes on every machine.
"""

from functools import cache
from math import gcd
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from contract.declaration import ObservationSpec, Record

GREY_WEIGHTS = (2989, 5870, 1140)
"""Of red, green and blue, in ten-thousandths: ITU-R BT.601, as the Arcade Learning Environment."""

_GREY_UNITS = 10_000

Pixels = npt.NDArray[np.uint8]


class ScreenPreprocessing(Record):
    """How raw screens become one frame: grey, brightest of them, cropped, area-averaged.

    Training applies it to its environment's screens; an agent applies the same to what it sees.
    """

    height: int = Field(default=84, ge=1)
    width: int = Field(default=84, ge=1)
    crop_top: int = Field(default=0, ge=0)
    """Rows cut off the top of the raw screen, such as a score bar."""

    crop_bottom: int = Field(default=0, ge=0)
    """Rows cut off its bottom."""

    def frame(self, screens: Pixels) -> Pixels:
        """One frame, [height, width], of the latest raw screens of a step.

        Args:
            screens: [K, H, W, 3] of RGB or [K, H, W] of grey. Two in a row show what a game draws
                only every other screen.

        Raises:
            ValueError: The screens are not of either shape, or no rows are left of them.
        """
        if screens.ndim == 4 and screens.shape[3] == len(GREY_WEIGHTS):
            screens = grey(screens)
        if screens.ndim != 3 or screens.dtype != np.uint8:
            raise ValueError(
                f"screens are {screens.dtype} {screens.shape}, expected uint8 [K, H, W, 3] or "
                "[K, H, W]"
            )
        screen = screens.max(axis=0)
        rows = screen[self.crop_top : len(screen) - self.crop_bottom]
        if len(rows) == 0:
            raise ValueError(f"{len(screen)} rows are all cropped")
        return resize_area(rows, self.height, self.width)


def grey(screens: Pixels) -> Pixels:
    """Luminance of RGB screens, [..., 3] to [...], rounded half up."""
    red, green, blue = (
        screens[..., channel].astype(np.uint32) * np.uint32(weight)
        for channel, weight in enumerate(GREY_WEIGHTS)
    )
    sums: npt.NDArray[np.uint32] = red + green + blue + np.uint32(_GREY_UNITS // 2)
    return (sums // np.uint32(_GREY_UNITS)).astype(np.uint8)


def resize_area(screen: Pixels, height: int, width: int) -> Pixels:
    """Each new pixel is the mean of the area it covers, rounded half up; [H, W] to that size."""
    rows, columns = _cover(screen.shape[0], height), _cover(screen.shape[1], width)
    sums = np.zeros((height, screen.shape[1]), np.uint32)
    for old, weights in zip(rows.old, rows.weights, strict=True):
        sums += screen[old] * weights[:, None]
    totals = np.full((height, width), rows.total * columns.total // 2, np.uint32)
    for old, weights in zip(columns.old, columns.weights, strict=True):
        totals += sums[:, old] * weights
    return (totals // (rows.total * columns.total)).astype(np.uint8)


class _Cover(NamedTuple):
    """The old pixels that new ones cover along one axis: at most K each."""

    old: npt.NDArray[np.intp]
    """Their indices, [K, new]."""

    weights: npt.NDArray[np.uint32]
    """How much of each is covered, in the smallest whole unit; 0 where a new one covers fewer."""

    total: int
    """What a new pixel covers, in that unit."""


@cache
def _cover(size: int, new_size: int) -> _Cover:
    unit = gcd(size, new_size)
    old_length, new_length = new_size // unit, size // unit
    starts = np.arange(new_size) * new_length
    most = (new_length - 1) // old_length + 2
    old = starts // old_length + np.arange(most)[:, None]
    covered_from = np.maximum(old * old_length, starts)
    covered_to = np.minimum((old + 1) * old_length, starts + new_length)
    weights = np.maximum(covered_to - covered_from, 0).astype(np.uint32)
    covers = weights.any(axis=1)
    return _Cover(np.minimum(old, size - 1)[covers], weights[covers], new_length)


class FrameStack:
    """The newest frames of one episode, oldest first, as the network takes them.

    A stack is whole from step 0 on, its missing frames filled as training filled them. Where the
    episode's beginning was not seen, or a step is missing, it is whole again only once it has
    been given as many frames in a row as it holds: never a padded stack passed off as a real one.
    """

    def __init__(self, spec: ObservationSpec) -> None:
        self._spec = spec
        self._frames: npt.NDArray[Any] | None = None
        self._num_known = 0
        self._last_step: int | None = None

    @property
    def num_bytes(self) -> int:
        """Memory held."""
        return 0 if self._frames is None else self._frames.nbytes

    def push(self, frame: npt.NDArray[Any], step: int) -> npt.NDArray[Any] | None:
        """Take a step's frame [*shape[1:]]; the stack [*shape], or None while it is not whole.

        The array that is returned is never written to again.
        """
        depth = self._spec.frame_stack
        if step == 0:
            self._frames = self._first(frame)
            self._num_known = depth
        elif self._frames is None or self._last_step != step - 1:
            self._frames = np.repeat(frame[None], depth, axis=0)
            self._num_known = 1
        else:
            self._frames = np.concatenate((self._frames[1:], frame[None]))
            self._num_known = min(self._num_known + 1, depth)
        self._last_step = step
        return self._frames if self._num_known == depth else None

    def newest(self) -> npt.NDArray[Any]:
        """The stack as far as it is known, for a heuristic; only after `push`."""
        if self._frames is None:
            raise ValueError("no frame has been pushed")
        return self._frames

    def _first(self, frame: npt.NDArray[Any]) -> npt.NDArray[Any]:
        stack = np.repeat(frame[None], self._spec.frame_stack, axis=0)
        if self._spec.first_frames == "zeros":
            stack[:-1] = 0
        return stack
