"""What a policy is for all its versions: its observations, its actions, its heuristic.

`policy.toml` beside the versions holds it, so that the heuristic stands when no bundle does.
"""

import math
import tomllib
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal, Self

import msgspec
import numpy as np
import numpy.typing as npt
from pydantic import AllowInfNan, BaseModel, ConfigDict, Field, ValidationError, model_validator

from contract.files import replace_file
from contract.heuristics import Heuristic

ObservationDtype = Literal["float32", "float64", "uint8", "int32", "int64"]
Bound = Annotated[float, AllowInfNan(True)]
DECLARATION_FILE = "policy.toml"


class Record(BaseModel):
    """A value that crosses a process boundary: frozen, finite, and closed to unknown fields."""

    # JSON has no infinity: as a string it comes back as what it was.
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="strings"
    )


class Fact(Record):
    """A value that is told and not ordered: fields that a later release has added are passed over.

    What an older release must not pass over (a shape, a unit) stays in a `Record`, which refuses.
    """

    model_config = ConfigDict(extra="ignore")


class DeclarationError(Exception):
    """A `policy.toml` is missing or does not say what it must."""


class ObservationSpec(Record):
    """One observation, without its batch axis."""

    shape: tuple[int, ...] = Field(min_length=1)
    """Sizes of the axes; with a frame stack, of the whole stack (its first axis is the stack)."""
    dtype: ObservationDtype = "float32"
    low: Bound | tuple[Bound, ...] | None = None
    """Smallest value the environment declares: one number, or one per element; may be -inf."""
    high: Bound | tuple[Bound, ...] | None = None
    frame_stack: int = Field(default=1, ge=1)
    """How many frames the first axis holds; 1 means observations are not stacked."""
    first_frames: Literal["repeat", "zeros"] = "repeat"
    """How training filled the stack at an episode's start."""

    @model_validator(mode="after")
    def _stack_is_first_axis(self) -> Self:
        if min(self.shape) < 1:
            raise ValueError(f"shape {self.shape}: every axis is at least 1 long")
        if self.frame_stack > 1 and (self.shape[0] != self.frame_stack or len(self.shape) < 2):
            raise ValueError(
                f"frame_stack {self.frame_stack} must be the first of several axes of shape "
                f"{self.shape}"
            )
        return self

    @model_validator(mode="after")
    def _bounds_enclose_something(self) -> Self:
        for name, bound in (("low", self.low), ("high", self.high)):
            if isinstance(bound, tuple) and len(bound) != self.size:
                raise ValueError(f"{name} has {len(bound)} elements, expected {self.size}")
        low = np.asarray(-np.inf if self.low is None else self.low)
        high = np.asarray(np.inf if self.high is None else self.high)
        # So written that a NaN fails it too.
        if not np.all(low <= high):
            raise ValueError(f"low {self.low} must not be above high {self.high}")
        return self

    @property
    def frame(self) -> "ObservationSpec":
        """One frame of the stack; the observation itself where frames are not stacked."""
        if self.frame_stack == 1:
            return self
        return ObservationSpec(shape=self.shape[1:], dtype=self.dtype)

    @property
    def size(self) -> int:
        """Elements of one observation."""
        return math.prod(self.shape)

    @property
    def numpy_dtype(self) -> np.dtype[np.generic]:
        """The dtype that the graph takes."""
        return np.dtype(self.dtype)


class ActionSpec(Record):
    """The actions: indices in [0, count)."""

    count: int = Field(ge=2, le=4096)
    labels: tuple[str, ...] | None = None
    """What each action means to a person."""
    masked: bool = False
    """Whether requests may say which actions are legal."""

    @model_validator(mode="after")
    def _one_label_an_action(self) -> Self:
        if self.labels is not None and len(self.labels) != self.count:
            raise ValueError(f"{len(self.labels)} labels for {self.count} actions")
        return self


class LoggingRules(Record):
    """What of a policy's traffic may be logged, and for how long it is kept."""

    logged_share: float = Field(default=1.0, gt=0, le=1)
    """Share of episodes that are logged, drawn by their ids; recorded with every decision."""
    observations: bool = True
    """Whether what was seen is logged; without it nothing can be learned from the log."""
    redacted_tags: tuple[str, ...] = ()
    """Tags whose values are not logged."""
    retention_days: float = Field(default=90.0, gt=0)
    """After so many days episodes are removed from the dataset."""


class Exploration(Record):
    """Acting at random in episodes whose agents agree to it, for what the log learns from that."""

    epsilon: float = Field(default=0.0, ge=0, le=0.2)
    """Probability of a random legal action in a step; 0 is never."""


class AuditMetric(Record):
    """Something that matters and that the reward does not pay for, reported with outcomes.

    A policy that learns to earn its reward by a loophole does not do better in it.
    """

    name: str = Field(min_length=1)
    """What it measures, to a person."""
    of_episode: Literal["sum", "last"] = "sum"
    """What its reports in one episode come to."""

    def total(self, reports: Sequence[float]) -> float | None:
        """Of one episode's reports in the order of its steps; None where there are none."""
        if not reports:
            return None
        return float(sum(reports)) if self.of_episode == "sum" else float(reports[-1])


class PolicyDeclaration(Record):
    """What outlives every version of a policy."""

    observation: ObservationSpec
    actions: ActionSpec
    heuristic: Heuristic
    constant_action: int = Field(default=0, ge=0)
    """What is answered should the heuristic itself fail."""
    q_bound: float | None = Field(default=None, gt=0)
    """Largest |Q| that may be served; beyond it the heuristic answers that row."""
    logging: LoggingRules = LoggingRules()
    exploration: Exploration = Exploration()
    audit: AuditMetric | None = None
    """What returns are held against, so that a reward that is hacked is seen."""

    @model_validator(mode="after")
    def _heuristic_fits(self) -> Self:
        if self.constant_action >= self.actions.count:
            raise ValueError(
                f"constant_action {self.constant_action} is not below "
                f"the {self.actions.count} of actions.count"
            )
        self.heuristic.check(self.observation.size, self.actions.count)
        return self

    @property
    def schema_hash(self) -> str:
        """Names the specs: records of one hash can be learned from together."""
        specs = self.observation.model_dump_json() + self.actions.model_dump_json()
        return sha256(specs.encode()).hexdigest()[:16]


def read_declaration(directory: Path) -> PolicyDeclaration:
    """Read `policy.toml` from a policy's folder.

    Raises:
        DeclarationError: The file is missing, is not TOML or declares something impossible.
    """
    path = directory / DECLARATION_FILE
    try:
        return PolicyDeclaration.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise DeclarationError(f"{path}: no such file; a policy needs its declaration") from None
    except ValidationError as error:
        raise DeclarationError(f"{path}: {first_fault(error)}") from error
    # ValueError: not UTF-8, not TOML, or an integer too long for Python to read.
    except (OSError, ValueError, RecursionError) as error:
        raise DeclarationError(f"{path}: {error}") from error


def write_declaration(directory: Path, declaration: PolicyDeclaration) -> None:
    """Write `policy.toml`, replacing what is there in one step."""
    document = declaration.model_dump(mode="json", exclude_none=True)
    replace_file(directory / DECLARATION_FILE, msgspec.toml.encode(document))


def legal_actions(
    action_masks: npt.NDArray[np.bool_] | None, rows: int, num_actions: int
) -> npt.NDArray[np.bool_]:
    """Masks as given, or every action legal, [rows, num_actions]."""
    if action_masks is None:
        return np.ones((rows, num_actions), dtype=np.bool_)
    return action_masks


def first_fault(error: ValidationError) -> str:
    """The first thing wrong with a document: the field, what was found, what was expected."""
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] not in ("missing", "value_error"):
        message = f"{message}, found {_shortened(repr(fault['input']))}"
    return f"{where}: {message}" if where else message


def _shortened(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"
