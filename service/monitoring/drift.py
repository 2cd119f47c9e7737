"""Whether what a policy sees, and what it makes of it, still looks as it did in training.

A row in fifty is sampled, at random and no faster than a window lasts, so that rows of one episode
lie apart and heavy traffic costs no more than light. When a window is full it is judged, and the
columns that have drifted are named.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import structlog

from contract.drift_reference import ColumnReference, DriftReference
from service.inference.policy import Decided, Policy
from service.monitoring.drift_window import SAMPLED_SHARE, TESTS, DriftWindow, TestName

Signal = Literal["observation", "feature", "q_value"]
SIGNALS: Final[tuple[Signal, ...]] = get_args(Signal)

_NUM_WORST: Final = 5
_BUFFERED_ROWS: Final = 100

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class DriftRules:
    """How large a window is, and how long it lasts at least."""

    window_rows: int = 2000
    window_seconds: float = 900.0
    num_monitors: int = 1
    """Workers that watch the same policy and share one rate of false alarms."""


class Finding(NamedTuple):
    """One test of one signal, by the column that is nearest to its limit or farthest beyond."""

    signal: Signal
    test: TestName
    column: int
    statistic: float
    limit: float


@dataclass(frozen=True)
class DriftReport:
    """What the last full window said."""

    findings: tuple[Finding, ...] = ()
    """One a signal and test."""
    num_alarming: int = 0
    """Columns, over all signals, that some test finds to have drifted."""
    worst: tuple[str, ...] = ()
    """Those columns, the worst first, five at most: `observation[2]`."""


class Drift:
    """Owns the window of one policy's stable version. Lives on the event loop."""

    def __init__(
        self,
        policy: str,
        rules: DriftRules,
        rng: np.random.Generator,
        publish: Callable[["Drift"], None],
    ) -> None:
        self._policy = policy
        self._rules = rules
        self._rng = rng
        self._publish = publish
        self._seconds_per_row = rules.window_seconds / rules.window_rows
        self._windows: dict[Signal, DriftWindow] = {}
        self._sampled: dict[Signal, list[npt.NDArray[Any]]] = {}
        self._rows_until_next = 0
        self._next_at = 0.0
        self.report = DriftReport()
        publish(self)

    @property
    def is_armed(self) -> bool:
        """The version that serves has a reference to be judged by."""
        return bool(self._windows)

    @property
    def needs_features(self) -> bool:
        """The features of a sampled row are judged."""
        return "feature" in self._windows

    def begin_version(self, reference: DriftReference | None) -> None:
        """Another version serves; None where nothing is known of how it should look."""
        columns = {} if reference is None else _columns(reference)
        num_tested = sum(map(len, columns.values())) * self._rules.num_monitors
        self._windows = {
            signal: DriftWindow(references, num_tested, self._rules.window_rows)
            for signal, references in columns.items()
            if references
        }
        self._sampled = {signal: [] for signal in self._windows}
        self.report = DriftReport()
        self._publish(self)

    def watch(
        self, policy: Policy, observations: npt.NDArray[Any], decided: Decided, now: float
    ) -> None:
        """See a batch that was answered, and sample a row of it where one is due.

        Where features are judged, the row is of the first batch that was asked for them.

        Args:
            policy: Which is to give features with its next batch, or is no longer.
            observations: [N, *shape].
            decided: What the model said of them.
            now: A monotonic clock, seconds.
        """
        if decided.features is None:
            if not self.wants(len(decided.actions), now):
                return
            if self.needs_features:
                policy.gives_features = True
                return
        policy.gives_features = False
        self.sample(observations, decided.features, decided.q_values)

    def wants(self, num_rows: int, now: float) -> bool:
        """Whether a row of this batch is to be sampled.

        Args:
            num_rows: Rows of the batch.
            now: A monotonic clock, seconds.
        """
        self._rows_until_next -= num_rows
        if self._rows_until_next > 0 or now < self._next_at or not self._windows:
            return False
        self._rows_until_next = int(self._rng.geometric(SAMPLED_SHARE))
        self._next_at = now + self._seconds_per_row
        return True

    def sample(
        self,
        observations: npt.NDArray[Any],
        features: npt.NDArray[np.float32] | None,
        q_values: npt.NDArray[np.float32],
    ) -> None:
        """Take one row of a batch that `wants` asked for: [N, *shape], [N, features], [N, actions].

        A row with a number that is not finite is left to others to tell of.
        """
        row = int(self._rng.integers(len(q_values)))
        values: dict[Signal, npt.NDArray[Any] | None] = {
            "observation": observations[row].ravel() if "observation" in self._windows else None,
            "feature": None if features is None else features[row],
            "q_value": q_values[row],
        }
        taken = {signal: values[signal] for signal in self._windows}
        if any(each is None or not np.isfinite(each).all() for each in taken.values()):
            return
        for signal, each in taken.items():
            self._sampled[signal].append(np.array(each, dtype=np.float64))
        waiting = len(next(iter(self._sampled.values())))
        window = next(iter(self._windows.values()))
        if waiting >= min(_BUFFERED_ROWS, self._rules.window_rows - window.rows):
            self._count()
            if window.rows >= self._rules.window_rows:
                self._close_window()

    def describe(self) -> dict[str, Any]:
        """What `/v1/policies` tells of it."""
        return {
            "armed": self.is_armed,
            "watched": {signal: window.num_columns for signal, window in self._windows.items()},
            "drifted": list(self.report.worst),
            "num_drifted": self.report.num_alarming,
        }

    def _count(self) -> None:
        for signal, window in self._windows.items():
            window.add(np.stack(self._sampled[signal]))
            self._sampled[signal].clear()

    def _close_window(self) -> None:
        self.report = judge(self._windows)
        if self.report.num_alarming:
            _log.warning(
                "drift",
                policy=self._policy,
                columns=self.report.worst,
                num_columns=self.report.num_alarming,
            )
        self._publish(self)


def judge(windows: dict[Signal, DriftWindow]) -> DriftReport:
    """Close every signal's window and say what they found."""
    findings: list[Finding] = []
    ratios: dict[str, float] = {}
    for signal, window in windows.items():
        scores = window.close()
        for test in TESTS:
            column = int(scores[test].ratios.argmax())
            statistic, limit = scores[test].statistics[column], scores[test].limits[column]
            findings.append(Finding(signal, test, column, float(statistic), float(limit)))
        worst = np.max([each.ratios for each in scores.values()], axis=0)
        ratios |= {f"{signal}[{column}]": float(ratio) for column, ratio in enumerate(worst)}
    alarming = sorted((name for name in ratios if ratios[name] >= 1), key=lambda n: -ratios[n])
    return DriftReport(tuple(findings), len(alarming), tuple(alarming[:_NUM_WORST]))


def _columns(reference: DriftReference) -> dict[Signal, tuple[ColumnReference, ...]]:
    return {
        "observation": reference.observations,
        "feature": reference.features,
        "q_value": reference.q_values,
    }
