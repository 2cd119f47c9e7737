import pytest

from contract.plan import PlanError, RolloutPlan, decode_plan

TOML = b"""
mode = "auto"
margin = 0.1
[[stages]]
share = 0.1
hold_seconds = 60
[[stages]]
share = 0.5
minimum_blocks = 5
"""


def test_a_plan_reads_alike_from_toml_and_json() -> None:
    plan = decode_plan(TOML, is_toml=True)
    assert [(stage.share, stage.hold_seconds, stage.minimum_blocks) for stage in plan.stages] == [
        (0.1, 60.0, 30),
        (0.5, 3600.0, 5),
    ]
    assert decode_plan(plan.model_dump_json().encode()) == plan


def test_nothing_said_means_four_stages_an_hour_each_and_a_person_promotes() -> None:
    plan = decode_plan(b"{}")
    assert plan == RolloutPlan()
    assert [stage.share for stage in plan.stages] == [0.01, 0.05, 0.25, 0.5]
    assert {stage.hold_seconds for stage in plan.stages} == {3600.0}
    assert (plan.mode, plan.judge_away_hold_seconds, plan.judge_away_stop_seconds) == (
        "guard",
        300.0,
        900.0,
    )


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b'{"stages": [{"share": 0.5}, {"share": 0.5}]}', "shares must rise"),
        (b'{"stages": [{"share": 1.0}]}', "stages.0.share"),
        (b'{"stages": []}', "stages"),
        (b'{"colour": 1}', "colour"),
        (b'{"mode": "yolo"}', "mode"),
        (b'{"return_range": [1, 1]}', "return_range"),
        (b'{"judge_away_hold_seconds": 901}', "judge_away"),
        (b"not json", "malformed"),
    ],
)
def test_a_foul_plan_names_its_field(document: bytes, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        decode_plan(document)


def test_foul_toml_is_refused() -> None:
    with pytest.raises(PlanError):
        decode_plan(b"stages = [", is_toml=True)
    with pytest.raises(PlanError):
        decode_plan(b"\xff", is_toml=True)
