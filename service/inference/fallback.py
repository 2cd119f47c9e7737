"""When the model's answer may not be given, and what is given instead."""

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import structlog

from contract.declaration import PolicyDeclaration, legal_actions
from contract.heuristics import ConstantHeuristic
from contract.records import AnsweredBy
from service.inference.policy import Decided
from service.logs import describe_failure

Reason = Literal[
    "no_model",
    "load_failed",
    "pinned",
    "model_error",
    "non_finite",
    "q_bound",
    "deadline",
    "overload",
    "breaker",
    "no_history",
]
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)

_LARGEST: Final = float(np.finfo(np.float32).max)
_NO_ROWS: Final = np.array([], dtype=np.intp)
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Chosen:
    """The actions that N rows are given, and who chose each."""

    actions: npt.NDArray[np.int64]
    propensities: npt.NDArray[np.float64]
    answered_by: list[AnsweredBy]
    index: npt.NDArray[np.intp] | None
    """Row to entry of `answered_by`; None where the one entry fits all rows."""
    q_values: npt.NDArray[np.float32] | None
    """[N, num_actions], NaN in rows the model did not answer; None where it answered none."""

    def counts(self) -> list[int]:
        """Rows of each entry of `answered_by`."""
        if self.index is None:
            return [len(self.actions)]
        return [int(n) for n in np.bincount(self.index, minlength=len(self.answered_by))]

    def share_of_model(self) -> float:
        """Share of rows that the first entry, the model, answered."""
        return 1.0 if self.index is None else float(np.mean(self.index == 0))

    def part(self, rows: npt.NDArray[np.bool_]) -> "Chosen":
        """Only the rows that are True."""
        return Chosen(
            self.actions[rows],
            self.propensities[rows],
            self.answered_by,
            None if self.index is None else self.index[rows],
            None if self.q_values is None else self.q_values[rows],
        )


class Fallback:
    """Answers for a policy when its model cannot. It always answers."""

    def __init__(self, declaration: PolicyDeclaration, rng: np.random.Generator) -> None:
        self._declaration = declaration
        self._heuristic = declaration.heuristic
        self._last_resort = ConstantHeuristic(action=declaration.constant_action)
        self._behaviour = self._heuristic.behaviour
        self._last_behaviour = self._last_resort.behaviour
        self._rng = rng

    def answer(
        self,
        observations: npt.NDArray[Any],
        action_masks: npt.NDArray[np.bool_] | None,
        version: int | None,
        reason: Reason,
        variant: str = "stable",
    ) -> Chosen:
        """The heuristic's choice for every row; the constant action should the heuristic fail."""
        masks = legal_actions(action_masks, len(observations), self._declaration.actions.count)
        behaviour = self._behaviour
        try:
            actions, propensities = self._heuristic.choose(observations, masks, self._rng)
        except Exception as error:  # noqa: BLE001 - a user's function, and an answer is due
            _log.error("heuristic_failed", behaviour=behaviour, error=describe_failure(error))
            behaviour = self._last_behaviour
            actions, propensities = self._last_resort.choose(observations, masks, self._rng)
        entry = AnsweredBy(version, variant, "heuristic", reason, behaviour)
        return Chosen(actions, propensities, [entry], None, None)

    def contain(
        self,
        decided: Decided,
        model: AnsweredBy,
        q_bound: float | None,
        observations: npt.NDArray[Any],
        action_masks: npt.NDArray[np.bool_] | None,
    ) -> Chosen:
        """The model's choice, save in the rows where it may not be given: those fail alone."""
        rows = len(decided.actions)
        chosen = Chosen(decided.actions, np.ones(rows), [model], None, decided.q_values)
        non_finite, beyond = find_faults(decided.q_values, q_bound)
        if not len(non_finite) and not len(beyond):
            return chosen
        chosen.actions = decided.actions.copy()
        chosen.index = np.zeros(rows, dtype=np.intp)
        # A number that may not be acted on may not be quoted either.
        chosen.q_values = decided.q_values.copy()
        self._replace(chosen, non_finite, "non_finite", observations, action_masks)
        self._replace(chosen, beyond, "q_bound", observations, action_masks)
        return chosen

    def _replace(
        self,
        chosen: Chosen,
        rows: npt.NDArray[np.intp],
        reason: Reason,
        observations: npt.NDArray[Any],
        action_masks: npt.NDArray[np.bool_] | None,
    ) -> None:
        if not len(rows) or chosen.index is None or chosen.q_values is None:
            return
        masks = None if action_masks is None else action_masks[rows]
        model = chosen.answered_by[0]
        instead = self.answer(observations[rows], masks, model.version, reason, model.variant)
        chosen.actions[rows], chosen.propensities[rows] = instead.actions, instead.propensities
        chosen.index[rows] = len(chosen.answered_by)
        chosen.answered_by += instead.answered_by
        chosen.q_values[rows] = np.nan


def find_faults(
    q_values: npt.NDArray[np.float32], q_bound: float | None
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows that may not be served: the non-finite ones, and those with |Q| above the bound."""
    sizes = np.abs(q_values)
    limit = _LARGEST if q_bound is None else q_bound
    # A NaN anywhere is the largest of all, and compares false.
    if sizes.max() <= limit:
        return _NO_ROWS, _NO_ROWS
    peaks = sizes.max(axis=1)
    finite = np.isfinite(peaks)
    return np.flatnonzero(~finite), np.flatnonzero(finite & ~(peaks <= limit))
