"""A rollout as data: how much traffic, for how long, and who decides. TOML or JSON."""

import tomllib
from itertools import pairwise
from typing import Any, Literal, Self

import msgspec
from pydantic import Field, ValidationError, model_validator

from contract.declaration import Record, first_fault

Mode = Literal["advise", "guard", "auto"]
"""`advise`: the judge only says. `guard`: it also ramps and rolls back; a person promotes.
`auto`: it promotes as well."""


class PlanError(Exception):
    """A plan is not one."""


class Stage(Record):
    """A share of the traffic, and how long it is held at least."""

    share: float = Field(gt=0, lt=1)
    """Of episodes that begin."""
    hold_seconds: float = Field(default=3600.0, ge=0)
    minimum_blocks: int = Field(default=30, ge=0)
    """Canary episodes that must have been compared at this share."""


class RolloutPlan(Record):
    """How a canary proceeds."""

    stages: tuple[Stage, ...] = Field(
        default=(Stage(share=0.01), Stage(share=0.05), Stage(share=0.25), Stage(share=0.5)),
        min_length=1,
        max_length=20,
    )
    mode: Mode = "guard"
    margin: float = Field(default=0.05, gt=0, lt=1)
    """Of the return range: a canary that is worse by so much must not be promoted."""
    maximum_blocks: int = Field(default=600, ge=1)
    """Beyond so many without a verdict the rollout says that it is inconclusive."""
    return_range: tuple[float, float] | None = None
    """Least and largest return of an episode; the bundles' profiles say it where left out."""
    holdback_share: float = Field(default=0.0, ge=0, lt=1)
    """Of episodes, left on the previous version after a promotion; 0 for none."""
    judge_away_hold_seconds: float = Field(default=300.0, gt=0)
    """Without a judge for so long the rollout says that it is held: nothing ramps."""
    judge_away_stop_seconds: float = Field(default=900.0, gt=0)
    """Without a judge for so long the canary gets no new episodes."""

    @model_validator(mode="after")
    def _shares_rise(self) -> Self:
        shares = [stage.share for stage in self.stages]
        if any(after <= before for before, after in pairwise(shares)):
            raise ValueError(f"stages: shares must rise, found {shares}")
        return self

    @model_validator(mode="after")
    def _range_is_one(self) -> Self:
        if self.return_range is not None and self.return_range[0] >= self.return_range[1]:
            raise ValueError(f"return_range {self.return_range}: expected least, then largest")
        return self

    @model_validator(mode="after")
    def _holds_before_it_stops(self) -> Self:
        if self.judge_away_hold_seconds > self.judge_away_stop_seconds:
            raise ValueError("judge_away_hold_seconds must not exceed judge_away_stop_seconds")
        return self


def plan_of(details: dict[str, Any]) -> RolloutPlan:
    """The plan in the details of a ledger entry; fields of a later release are passed over.

    Raises:
        ValueError: There is none, or it says what this release does not know.
    """
    return RolloutPlan.model_validate(details.get("plan"), extra="ignore")


def decode_plan(content: bytes, *, is_toml: bool = False) -> RolloutPlan:
    """Read a plan.

    Raises:
        PlanError: It is neither JSON nor TOML as said, or misses or adds a field.
    """
    try:
        document = tomllib.loads(content.decode()) if is_toml else msgspec.json.decode(content)
        return RolloutPlan.model_validate(document)
    except ValidationError as error:
        raise PlanError(first_fault(error)) from error
    except (msgspec.DecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanError(str(error)) from error
