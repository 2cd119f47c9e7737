"""Whether evaluations say that a run has gone wrong, though every number is still finite.

Both checks are functions of the evaluations so far, so that a resumed run judges as it would have.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from training.divergence import DivergenceError
from training.episode_log import EVALUATIONS_FILE, EvaluationRecord


class MonitorLimits(NamedTuple):
    """When an evaluation counts as bad, and how many in a row stop a run."""

    lost_share: float = 0.8
    """Share of what was gained since the first evaluation; losing more is a collapse."""

    overestimation: float = 1.0
    """Promised over realised value at the start, in spans of what has been realised so far;
    beyond it Q-values have left the returns behind."""

    patience: int = 8
    """Bad evaluations in a row: a few happen to runs that end well."""


_FRESH_NETWORK_Q = 1.0
"""A network that has learned nothing promises this much where nothing is realised yet."""

DEFAULT_LIMITS = MonitorLimits()


def watched(
    should_stop: Callable[[], bool], out: Path, limits: MonitorLimits = DEFAULT_LIMITS
) -> Callable[[], bool]:
    """The same question, asked after every round, that also looks at a run's new evaluations.

    Args:
        should_stop: What was asked before.
        out: Folder of the run.
        limits: What sound is.

    Raises:
        DivergenceError: When asked after evaluations that `check_evaluations` does not pass.
    """
    evaluations = EvaluationFile(out)

    def ask() -> bool:
        records = evaluations.read_if_new()
        if records is not None:
            check_evaluations(records, limits)
        return should_stop()

    return ask


class EvaluationFile:
    """The evaluations of a run that is under way, read when there are more of them."""

    def __init__(self, out: Path) -> None:
        self._path = out / EVALUATIONS_FILE
        self._num_bytes = 0

    def read_if_new(self) -> list[EvaluationRecord] | None:
        """All evaluations, oldest first; `None` where there are no more than the last time."""
        num_bytes = self._path.stat().st_size if self._path.exists() else 0
        if num_bytes == self._num_bytes:
            return None
        self._num_bytes = num_bytes
        lines = self._path.read_text(encoding="utf-8").splitlines()
        return [EvaluationRecord.model_validate_json(line) for line in lines]


def check_evaluations(
    records: Sequence[EvaluationRecord], limits: MonitorLimits = DEFAULT_LIMITS
) -> None:
    """Pass if the evaluations so far look sound.

    Args:
        records: All of a run, oldest first.
        limits: What sound is.

    Raises:
        DivergenceError: Returns have collapsed, or Q-values have left them behind.
    """
    if has_collapsed([record.mean_return for record in records], limits):
        best = max(record.mean_return for record in records)
        raise DivergenceError(
            f"the mean return was {best:.4g} and has been no more than "
            f"{max(record.mean_return for record in records[-limits.patience :]):.4g} over the "
            f"last {limits.patience} evaluations: the policy has forgotten; lower the learning "
            "rate, or enlarge the replay; the best checkpoint is kept"
        )
    promised = [record.mean_start_q for record in records]
    realised = [record.mean_start_return for record in records]
    if has_run_away(promised, realised, limits):
        raise DivergenceError(
            f"max Q at the start is {promised[-1]:.4g} where the discounted return is "
            f"{realised[-1]:.4g}, and grows: targets chase themselves; sync the target network "
            "less often, lower the learning rate, or learn with --double"
        )


def has_collapsed(mean_returns: Sequence[float], limits: MonitorLimits) -> bool:
    """Whether the latest evaluations have all lost most of what the run had gained.

    The gain is counted from the first evaluation, so that the rule holds for negative returns. A
    run that has fallen further below its first than it ever rose above it has gained nothing yet.
    """
    if len(mean_returns) <= limits.patience:
        return False
    before, latest = mean_returns[: -limits.patience], mean_returns[-limits.patience :]
    gain = max(before) - mean_returns[0]
    has_gained = gain > max(0.0, mean_returns[0] - min(mean_returns))
    return has_gained and max(latest) < max(before) - limits.lost_share * gain


def has_run_away(
    promised: Sequence[float], realised: Sequence[float], limits: MonitorLimits
) -> bool:
    """Whether the latest evaluations all promise far too much, each more than the one before.

    Args:
        promised: max Q of first observations, mean of each evaluation.
        realised: The discounted returns that came of them.
        limits: What far is, in units of the largest |realised| so far.
    """
    if len(promised) < limits.patience:
        return False
    scale = max(_FRESH_NETWORK_Q, *(abs(value) for value in realised))
    latest = range(len(promised) - limits.patience, len(promised))
    gaps = [promised[index] - realised[index] for index in latest]
    is_growing = all(later > earlier for earlier, later in pairwise(gaps))
    return is_growing and min(gaps) > limits.overestimation * scale
