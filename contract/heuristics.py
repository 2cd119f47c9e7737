"""Fallback policies: small, total, and understood by a person.

A heuristic answers when the model cannot. Each kind is data (so that `policy.toml` holds it) with
one pure method, `choose`; all of them obey the action mask, in which every row allows at least one
action.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from importlib import import_module
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

Observations = npt.NDArray[Any]
Masks = npt.NDArray[np.bool_]
Actions = npt.NDArray[np.int64]
Propensities = npt.NDArray[np.float64]
Function = Callable[[Observations, Masks], Actions]


class _Kind(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def check(self, observation_size: int, num_actions: int) -> None:
        """Raise ValueError where the heuristic does not fit the policy's shapes."""

    @property
    def behaviour(self) -> str:
        """Who chose, for the transition log: the kind and a hash of what it was told."""
        told = msgspec.json.encode(self.model_dump(mode="json"), order="sorted")
        return f"heuristic/{self.model_dump()['kind']}@{sha256(told).hexdigest()[:12]}"


class ConstantHeuristic(_Kind):
    """Always the same action."""

    kind: Literal["constant"] = "constant"
    action: int = Field(default=0, ge=0)

    def check(self, observation_size: int, num_actions: int) -> None:
        """The action must exist."""
        _check_actions([self.action], num_actions)

    def choose(
        self, observations: Observations, masks: Masks, rng: np.random.Generator
    ) -> tuple[Actions, Propensities]:
        """Actions and their propensities, both [N]."""
        wished = np.full(len(observations), self.action, dtype=np.int64)
        return legalise(wished, masks), np.ones(len(observations))


class RandomHeuristic(_Kind):
    """Any legal action, all alike."""

    kind: Literal["random"] = "random"

    def choose(
        self, observations: Observations, masks: Masks, rng: np.random.Generator
    ) -> tuple[Actions, Propensities]:
        """Actions and their propensities, both [N]."""
        # The largest of independent uniforms is a uniform draw among the legal actions.
        actions = np.where(masks, rng.random(masks.shape), -1.0).argmax(axis=1)
        return actions.astype(np.int64), 1.0 / masks.sum(axis=1)


class LinearHeuristic(_Kind):
    """The legal action with the largest `weights @ observation + bias`."""

    kind: Literal["linear"] = "linear"
    weights: tuple[tuple[float, ...], ...]
    """One row an action, [num_actions, observation size]."""
    bias: tuple[float, ...] | None = None

    def check(self, observation_size: int, num_actions: int) -> None:
        """Weights must be [num_actions, observation_size], bias [num_actions]."""
        widths = {len(row) for row in self.weights}
        if len(self.weights) != num_actions or widths != {observation_size}:
            raise ValueError(
                f"linear heuristic: weights must be [{num_actions}, {observation_size}], "
                f"found {len(self.weights)} rows of {sorted(widths)}"
            )
        if self.bias is not None and len(self.bias) != num_actions:
            raise ValueError(
                f"linear heuristic: bias must be [{num_actions}], found [{len(self.bias)}]"
            )

    def choose(
        self, observations: Observations, masks: Masks, rng: np.random.Generator
    ) -> tuple[Actions, Propensities]:
        """Actions and their propensities, both [N]."""
        flat = observations.reshape(len(observations), -1).astype(np.float64)
        bias = 0.0 if self.bias is None else np.asarray(self.bias)
        with np.errstate(invalid="ignore", over="ignore"):
            scores = flat @ np.asarray(self.weights).T + bias
        # An overflow must not tie with what marks an illegal action.
        actions = np.where(masks, np.nan_to_num(scores), -np.inf).argmax(axis=1)
        return actions.astype(np.int64), np.ones(len(observations))


class TableRow(_Kind):
    """One rule: the action to take where every condition holds."""

    conditions: tuple[tuple[dict[int, float], float], ...] = ()
    """Each is ({element: weight}, limit) and holds where the weighted sum is above the limit."""
    action: int = Field(ge=0)


class TableHeuristic(_Kind):
    """Rules read from the top: the first whose conditions all hold decides."""

    kind: Literal["table"] = "table"
    rows: tuple[TableRow, ...]
    otherwise: int = Field(ge=0)

    def check(self, observation_size: int, num_actions: int) -> None:
        """Every action and every element named must exist."""
        _check_actions([row.action for row in self.rows] + [self.otherwise], num_actions)
        for number, row in enumerate(self.rows):
            for weights, _ in row.conditions:
                beyond = [index for index in weights if not 0 <= index < observation_size]
                if beyond:
                    raise ValueError(
                        f"table heuristic, row {number}: no element {beyond[0]} "
                        f"in an observation of {observation_size}"
                    )

    def choose(
        self, observations: Observations, masks: Masks, rng: np.random.Generator
    ) -> tuple[Actions, Propensities]:
        """Actions and their propensities, both [N]."""
        flat = observations.reshape(len(observations), -1).astype(np.float64)
        wished = np.full(len(flat), self.otherwise, dtype=np.int64)
        undecided = np.ones(len(flat), dtype=np.bool_)
        for row in self.rows:
            holds = undecided.copy()
            for weights, limit in row.conditions:
                with np.errstate(invalid="ignore", over="ignore"):
                    holds &= flat[:, list(weights)] @ np.array(list(weights.values())) > limit
            wished[holds] = row.action
            undecided &= ~holds
        return legalise(wished, masks), np.ones(len(flat))


class PythonHeuristic(_Kind):
    """A function `module:name` of (observations, masks) -> actions [N].

    It runs inside the server, so the server's settings must allow its name (`refuse_unlisted`).
    """

    kind: Literal["python"] = "python"
    function: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")

    def choose(
        self, observations: Observations, masks: Masks, rng: np.random.Generator
    ) -> tuple[Actions, Propensities]:
        """Actions and their propensities, both [N]."""
        module, name = self.function.split(":")
        function: Function = getattr(import_module(module), name)
        wished = np.asarray(function(observations, masks), dtype=np.int64)
        if wished.shape != (len(observations),):
            raise ValueError(
                f"{self.function} gave shape {wished.shape} for {len(observations)} observations"
            )
        return legalise(wished, masks), np.ones(len(observations))


AnyHeuristic = (
    ConstantHeuristic | RandomHeuristic | LinearHeuristic | TableHeuristic | PythonHeuristic
)
Heuristic = Annotated[AnyHeuristic, Field(discriminator="kind")]


def legalise(wished: Actions, masks: Masks) -> Actions:
    """Keep a wished action where it is legal; else take the first legal one, [N]."""
    rows = np.arange(len(wished))
    inside = (wished >= 0) & (wished < masks.shape[1])
    legal = inside & masks[rows, np.where(inside, wished, 0)]
    return np.where(legal, wished, masks.argmax(axis=1)).astype(np.int64)


def refuse_unlisted(heuristic: AnyHeuristic, allowed: Sequence[str]) -> None:
    """Raise ValueError for a Python heuristic whose function the settings do not list."""
    if isinstance(heuristic, PythonHeuristic) and heuristic.function not in allowed:
        raise ValueError(
            f"heuristic function {heuristic.function} is not allowed; "
            f"allowed_heuristics lists {list(allowed)}"
        )


def _check_actions(actions: Sequence[int], num_actions: int) -> None:
    beyond = [action for action in actions if action >= num_actions]
    if beyond:
        raise ValueError(f"heuristic: action {beyond[0]} is not below {num_actions}")
