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
        # Unknown until a version says; a zero would read as a maximum to be above.
        self._training_max.set(float("nan"))
        self._seen: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]] = []
        self._rows = 0
        metrics.before_scrape.append(self.flush)

    def begin_version(self, absolute_q: float | None) -> None:
        """Another version serves, trained up to this |Q|; None where that is not known."""
        self.flush()
        # The largest since start was the version's before, and would be held against this one.
        self._max.set(0.0)
        self._training_max.set(float("nan") if absolute_q is None else absolute_q)

    def observe(self, q_values: npt.NDArray[np.float32], actions: npt.NDArray[np.int64]) -> None:
        """Take what the model said, [N, num_actions] and [N], faults included."""
        self._seen.append((q_values, actions))
        self._rows += len(q_values)
        if self._rows >= _FLUSH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Count what was kept."""
        if not self._seen:
            return
        q_values = np.concatenate([seen[0] for seen in self._seen])
        actions = np.concatenate([seen[1] for seen in self._seen])
        self._seen, self._rows = [], 0
        finite = np.isfinite(q_values).all(axis=1)
        self._nonfinite.add(float(len(q_values) - finite.sum()))
        q_values, actions = q_values[finite], actions[finite]
        if not len(q_values):
            return
        best = np.partition(q_values, -2, axis=1)[:, -2:].astype(np.float64)
        self._q_value.observe_all(best[:, 1])
        self._gap.observe_all(best[:, 1] - best[:, 0])
        self._max.set(max(self._max.value, float(np.abs(q_values).max())))
        # Not the argmax: under a mask the model may have had to choose another.
        chosen = np.bincount(actions, minlength=len(self._actions))
        for counter, count in zip(self._actions, chosen.tolist(), strict=True):
            counter.add(count)
