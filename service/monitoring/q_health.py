"""How the Q-values look: sizes, gaps, actions, and what is not a number.

Cheap by being late: batches are kept as they are and counted many at a time.
"""

import numpy as np
import numpy.typing as npt

from service.metrics import Metrics

_FLUSH_ROWS = 4096


class QHealth:
    """Owns the Q-value series of one policy and variant."""

    def __init__(self, metrics: Metrics, policy: str, variant: str, num_actions: int) -> None:
        self._q_value = metrics.histogram("dqn_q_value", policy, variant)
        self._gap = metrics.histogram("dqn_action_gap", policy, variant)
        self._max = metrics.counter("dqn_q_value_max", policy, variant)
        self._training_max = metrics.counter("dqn_q_value_training_max", policy, variant)
        self._nonfinite = metrics.counter("dqn_q_nonfinite_total", policy, variant)
        self._actions = [
            metrics.counter("dqn_actions_total", policy, variant, str(action))
            for action in range(num_actions)
        ]
        self._q_values: list[npt.NDArray[np.float32]] = []
        self._rows = 0
        metrics.before_scrape.append(self.flush)

    def set_training_maximum(self, absolute_q: float) -> None:
        """Of the version that now serves."""
        self._training_max.set(absolute_q)

    def observe(self, q_values: npt.NDArray[np.float32]) -> None:
        """Take what the model said, [N, num_actions], faults included."""
        self._q_values.append(q_values)
        self._rows += len(q_values)
        if self._rows >= _FLUSH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Count what was kept."""
        if not self._q_values:
            return
        q_values = np.concatenate(self._q_values)
        self._q_values, self._rows = [], 0
        finite = np.isfinite(q_values).all(axis=1)
        self._nonfinite.add(float(len(q_values) - finite.sum()))
        q_values = q_values[finite]
        if not len(q_values):
            return
        best = np.partition(q_values, -2, axis=1)[:, -2:].astype(np.float64)
        self._q_value.observe_all(best[:, 1])
        self._gap.observe_all(best[:, 1] - best[:, 0])
        self._max.set(max(self._max.value, float(np.abs(q_values).max())))
        chosen = np.bincount(q_values.argmax(axis=1), minlength=len(self._actions))
        for counter, count in zip(self._actions, chosen.tolist(), strict=True):
            counter.add(count)
