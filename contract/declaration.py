"""What a policy is for all its versions: its observations, its actions, its heuristic.

`policy.toml` beside the versions holds it, so that the heuristic stands when no bundle does.
"""

import tomllib
from hashlib import sha256
from pathlib import Path
from typing import Literal, Self

import msgspec
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from contract.files import replace_file
from contract.heuristics import Heuristic

ObservationDtype = Literal["float32", "float64", "uint8", "int32", "int64"]
DECLARATION_FILE = "policy.toml"


class Record(BaseModel):
    """A value that crosses a process boundary: frozen, and closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DeclarationError(Exception):
    """A `policy.toml` is missing or does not say what it must."""


class ObservationSpec(Record):
    """One observation, without its batch axis."""

    shape: tuple[int, ...] = Field(min_length=1)
    """Sizes of the axes; with a frame stack, of the whole stack (its first axis is the stack)."""
    dtype: ObservationDtype = "float32"
    low: float | tuple[float, ...] | None = None
    """Smallest value the environment declares: one number, or one per element."""
    high: float | tuple[float, ...] | None = None
    frame_stack: int = Field(default=1, ge=1)
    """How many frames the first axis holds; 1 means observations are not stacked."""
    first_frames: Literal["repeat", "zeros"] = "repeat"
    """How training filled the stack at an episode's start."""

    @model_validator(mode="after")
    def _stack_is_first_axis(self) -> Self:
        if min(self.shape) < 1:
            raise ValueError(f"shape {self.shape}: every axis is at least 1 long")
        if self.frame_stack > 1 and self.shape[0] != self.frame_stack:
            raise ValueError(
                f"frame_stack {self.frame_stack} must be the first axis of shape {self.shape}"
            )
        return self

    @property
    def size(self) -> int:
        """Elements of one observation."""
        return int(np.prod(self.shape))

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


class PolicyDeclaration(Record):
    """What outlives every version of a policy."""

    observation: ObservationSpec
    actions: ActionSpec
    heuristic: Heuristic
    constant_action: int = Field(default=0, ge=0)
    """What is answered should the heuristic itself fail."""
    q_bound: float | None = Field(default=None, gt=0)
    """Largest |Q| that may be served; beyond it the heuristic answers that row."""

    @model_validator(mode="after")
    def _heuristic_fits(self) -> Self:
        if self.constant_action >= self.actions.count:
            raise ValueError(
                f"constant_action {self.constant_action} is not below {self.actions.count}"
            )
        self.heuristic.check(self.observation.size, self.actions.count)
        return self

    @property
    def schema_hash(self) -> str:
        """Names the specs: records of one hash can be learned from together."""
        specs = [
            self.observation.model_dump(mode="json"),
            self.actions.model_dump(mode="json"),
        ]
        return sha256(msgspec.json.encode(specs, order="sorted")).hexdigest()[:16]


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
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DeclarationError(f"{path}: {error}") from error
    except ValidationError as error:
        raise DeclarationError(f"{path}: {_first_fault(error)}") from error


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


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    return f"{'.'.join(str(part) for part in fault['loc']) or 'policy'}: {fault['msg']}"
