"""n-step returns: rewards of several steps before the network is asked for the rest."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from training.replay import Transitions

Floats = npt.NDArray[np.float32]


def n_step_returns(
    rewards: Floats, ended: npt.NDArray[np.bool_], discount: float
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Discounted sums of up to n rewards, stopping where an episode ends (Sutton, 1988).

    Args:
        rewards: Of n steps in a row, [N, n].
        ended: Whether the episode ended with that step, truly or by a limit, [N, n].
        discount: Per step.

    Returns:
        The sums, [N], and how many steps each spans, [N], from 1 to n.
    """
    n = rewards.shape[1]
    last = np.where(ended.any(axis=1), ended.argmax(axis=1), n - 1)
    powers = np.float32(discount) ** np.arange(n, dtype=np.float32)
    is_counted = np.arange(n) <= last[:, np.newaxis]
    return (rewards * powers * is_counted).sum(axis=1, dtype=np.float32), last + 1


class NStepAccumulator:
    """Turns single steps of several environments into transitions of up to n steps.

    The last n - 1 steps wait for what follows them.
    """

    def __init__(self, n_step: int, discount: float) -> None:
        self._n_step = n_step
        self._discount = discount
        self._waiting: list[Transitions] = []

    def add(
        self, walked: Sequence[Transitions]
    ) -> tuple[Transitions, npt.NDArray[np.int64]] | None:
        """Take in steps, each [N], and give transitions, [M], with the steps that each spans.

        Nothing is given as long as no step has n - 1 behind it.
        """
        steps = [*self._waiting, *walked]
        num_ready = len(steps) - self._n_step + 1
        if num_ready <= 0:
            self._waiting = steps
            return None
        self._waiting = steps[num_ready:]
        if self._n_step == 1:
            joined = Transitions(*map(np.concatenate, zip(*steps, strict=True)))
            return joined, np.ones(len(joined.actions), np.int64)

        columns = Transitions(*map(np.stack, zip(*steps, strict=True)))
        returns, spans = n_step_returns(
            _windows(columns.rewards, self._n_step),
            _windows(columns.terminated | columns.truncated, self._n_step),
            self._discount,
        )
        num_environments = columns.actions.shape[1]
        first = np.repeat(np.arange(num_ready), num_environments)
        lane = np.tile(np.arange(num_environments), num_ready)
        last = first + spans - 1
        return (
            Transitions(
                observations=columns.observations[first, lane],
                actions=columns.actions[first, lane],
                rewards=returns,
                next_observations=columns.next_observations[last, lane],
                terminated=columns.terminated[last, lane],
                truncated=columns.truncated[last, lane],
            ),
            spans,
        )

    def cut(self) -> None:
        """Forget the steps that wait: what follows them will not come."""
        self._waiting = []

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """What waits, one [T, N, ...] array per field, for `load_arrays`; empty if nothing does."""
        if not self._waiting:
            return {}
        columns = Transitions(*map(np.stack, zip(*self._waiting, strict=True)))
        return {name: np.asarray(column) for name, column in columns._asdict().items()}

    def load_arrays(self, arrays: dict[str, npt.NDArray[np.generic]]) -> None:
        """Take up what `arrays` gave."""
        fields = [arrays[name] for name in Transitions._fields] if arrays else []
        self._waiting = [Transitions(*step) for step in zip(*fields, strict=True)]


def _windows(column: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """Each value with the next ones of its environment, [T, N] to [(T - size + 1) * N, size]."""
    windows = np.lib.stride_tricks.sliding_window_view(column, size, axis=0)
    return windows.reshape(-1, size)
