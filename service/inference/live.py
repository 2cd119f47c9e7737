"""A version that takes traffic, and one call of its model."""

import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from contract.records import AnsweredBy
from service.inference.breaker import Breaker
from service.inference.cost import CostModel
from service.inference.policy import Decided, Policy


@dataclass(frozen=True)
class Live:
    """A version that takes traffic."""

    policy: Policy
    bundle_sha256: str
    answered_by: AnsweredBy
    q_bound: float | None
    runs_inline: bool
    """It is quick enough to run on the event loop."""
    cost: CostModel
    breaker: Breaker = field(default_factory=Breaker)


class Placed(NamedTuple):
    """The version that a row goes to, and by what."""

    live: Live
    salt: str | None
    """Of the hash that assigned its episode; None where no version was on trial."""


@dataclass(frozen=True, slots=True)
class Ran:
    """One call of the model, timed where it ran: the event loop may be late to hear of it."""

    said: Decided | str
    """The model's answer, or why there is none."""
    started_at: float
    """On `time.perf_counter`."""
    seconds: float


def run(
    policy: Policy, observations: npt.NDArray[Any], action_masks: npt.NDArray[np.bool_] | None
) -> Ran:
    """Ask the model once; nothing is raised. Safe to call from the model's own thread."""
    started_at = time.perf_counter()
    said = _ask(policy, observations, action_masks)
    return Ran(said, started_at, time.perf_counter() - started_at)


def _ask(
    policy: Policy, observations: npt.NDArray[Any], action_masks: npt.NDArray[np.bool_] | None
) -> Decided | str:
    try:
        decided = policy.decide(observations, action_masks)
        rows, count = len(observations), policy.manifest.actions.count
        found = (decided.actions.shape, decided.q_values.shape)
        # A shape that follows the data passed every proof, and would answer one row with another's.
        if found != ((rows,), (rows, count)):
            return f"actions and q_values of shapes {found} for {rows} observations"
        return decided
    except Exception as error:  # noqa: BLE001 - onnxruntime raises many types, none public
        return repr(error)
