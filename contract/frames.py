"""Frame stacks: the same in training, at serving and in what is learned from the log."""

from typing import Any

import numpy as np
import numpy.typing as npt

from contract.declaration import ObservationSpec


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
