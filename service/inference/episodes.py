"""What the server keeps of open episodes: the frame stack, the last answer, what is durable."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from contract.declaration import ObservationSpec
from contract.frames import FrameStack
from service.inference.questions import Answer, Told
from service.metrics import Counter

_OVERHEAD_BYTES = 1024


@dataclass(slots=True)
class OpenEpisode:
    """One episode of one policy on this worker."""

    stack: FrameStack | None
    """None for a policy whose observations are not stacked."""
    touched_at: float
    step: int = -1
    """The last one asked about."""
    observation: npt.NDArray[Any] | None = None
    """What it is decided on, [*shape]: a retry shifts no stack."""
    has_history: bool = True
    """The stack was whole at that step."""
    answer: Answer | None = None
    """What that step was told; a retry is told the same."""
    waiting: list[Told] | None = None
    """Retries of that step that came while it was being decided; None while it is not."""
    durable_step: int = -1
    """Everything up to it is on disk."""

    @property
    def num_bytes(self) -> int:
        """Memory held, about."""
        return _OVERHEAD_BYTES + (0 if self.stack is None else self.stack.num_bytes)


class OpenEpisodes:
    """Owns them all, within a bound of memory: the longest silent one goes first."""

    def __init__(
        self, max_bytes: int, silent_seconds: float, clock: Callable[[], float], evicted: Counter
    ) -> None:
        self._max_bytes = max_bytes
        self._silent_seconds = silent_seconds
        self._clock = clock
        self._evicted = evicted
        self._episodes: OrderedDict[tuple[str, str], OpenEpisode] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._episodes)

    def find(self, policy: str, episode_id: str, spec: ObservationSpec) -> OpenEpisode:
        """The episode, opened where it is not known, and now the youngest of all."""
        key, now = (policy, episode_id), self._clock()
        episode = self._episodes.get(key)
        if episode is None:
            stack = FrameStack(spec) if spec.frame_stack > 1 else None
            episode = OpenEpisode(stack, now)
            self._episodes[key] = episode
            self._bytes += episode.num_bytes
        episode.touched_at = now
        self._episodes.move_to_end(key)
        return episode

    def push(self, episode: OpenEpisode, frame: npt.NDArray[Any]) -> None:
        """Take the frame of the episode's newest step, and make room where there is none."""
        if episode.stack is None:
            episode.observation = frame
            return
        before = episode.num_bytes
        stack = episode.stack.push(frame, episode.step)
        episode.has_history = stack is not None
        episode.observation = episode.stack.newest()
        self._bytes += episode.num_bytes - before
        while self._bytes > self._max_bytes and len(self._episodes) > 1:
            self._drop_oldest()

    def drop_silent(self) -> None:
        """Let go of the episodes that nobody has asked about for long."""
        limit = self._clock() - self._silent_seconds
        while self._episodes and next(iter(self._episodes.values())).touched_at < limit:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, episode = self._episodes.popitem(last=False)
        self._bytes -= episode.num_bytes
        self._evicted.add()
