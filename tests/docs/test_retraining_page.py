"""What the page on retraining shows is what the programs take."""

import shlex
import tomllib
from pathlib import Path
from typing import get_args

from contract.declaration import Exploration
from contract.plan import decode_plan
from retraining.config import RetrainConfig
from retraining.state import Outcome
from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs" / "how-to" / "retraining.md"


def block_with(words: str) -> str:
    (found,) = [block.content for block in blocks(PAGE) if words in block.content]
    return found


def test_the_unit_starts_cycles() -> None:
    (line,) = [each for each in block_with("ExecStart").splitlines() if "ExecStart" in each]
    program, verb, *flags = shlex.split(line.removeprefix("ExecStart="))
    assert (Path(program).name, verb) == ("dqn", "retrain")
    config = RetrainConfig(_cli_parse_args=flags)
    assert (config.every, config.policy) == (6 * 3600.0, "cartpole")


def test_the_plan_promotes_by_itself() -> None:
    plan = decode_plan(block_with("stages").encode(), is_toml=True)
    assert (plan.mode, [stage.share for stage in plan.stages]) == ("auto", [0.1, 0.5])


def test_the_exploration_is_one() -> None:
    declared = tomllib.loads(block_with("epsilon ="))
    assert Exploration(**declared["exploration"]).epsilon == 0.05


def test_every_end_of_a_cycle_that_ships_or_holds_is_explained() -> None:
    told = PAGE.read_text("utf-8")
    assert [each for each in get_args(Outcome) if f"`{each}`" not in told] == ["dry_run"]
