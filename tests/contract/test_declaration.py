import os
from pathlib import Path

import numpy as np
import pytest

from contract.declaration import (
    ActionSpec,
    AuditMetric,
    DeclarationError,
    ObservationSpec,
    PolicyDeclaration,
    legal_actions,
    read_declaration,
    write_declaration,
)
from contract.heuristics import LinearHeuristic, PythonHeuristic, TableHeuristic, TableRow
from tests.builders import declaration

DECLARED = """
[observation]
shape = [4]
{observation}
[actions]
count = 2
{actions}
[heuristic]
kind = "constant"
{heuristic}
"""


def written(directory: Path, top: str = "", **sections: str) -> Path:
    lines = {"observation": "", "actions": "", "heuristic": ""} | sections
    (directory / "policy.toml").write_text(top + DECLARED.format(**lines), encoding="utf-8")
    return directory


@pytest.mark.parametrize(
    "declared",
    [
        declaration(),
        declaration(constant_action=1, q_bound=12.5),
        declaration(
            observation=ObservationSpec(
                shape=(4,), low=(-4.8, -np.inf, -0.4, -np.inf), high=(4.8, np.inf, 0.4, np.inf)
            )
        ),
        declaration(
            observation=ObservationSpec(
                shape=(4, 2, 3), dtype="uint8", low=0, high=255, frame_stack=4, first_frames="zeros"
            ),
            actions=ActionSpec(count=3, masked=True),
        ),
        declaration(heuristic=LinearHeuristic(weights=((0.1,) * 4, (-0.2,) * 4), bias=(0, 1e-9))),
        declaration(
            heuristic=TableHeuristic(
                rows=(TableRow(conditions=(({2: 1.0, 3: 0.5}, 0.1),), action=1),), otherwise=0
            )
        ),
        declaration(heuristic=PythonHeuristic(function="my_module:choose")),
    ],
)
def test_policy_toml_gives_back_what_was_declared(
    tmp_path: Path, declared: PolicyDeclaration
) -> None:
    write_declaration(tmp_path, declared)
    assert read_declaration(tmp_path) == declared
    assert os.listdir(tmp_path) == ["policy.toml"]


def test_smallest_declaration_a_person_would_write_is_read(tmp_path: Path) -> None:
    declared = read_declaration(written(tmp_path))
    assert declared.observation.numpy_dtype == np.float32
    assert (declared.constant_action, declared.q_bound) == (0, None)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"observation": "dtype = 'float16'"}, r"observation.dtype: .*'float32'.*found 'float16'"),
        ({"observation": "frame_stack = 3"}, r"observation: frame_stack 3 .* shape \(4,\)"),
        ({"observation": "frame_stack = 0"}, r"observation.frame_stack: .* or equal to 1, found 0"),
        ({"observation": "low = [0.0, 1.0]"}, "observation: low has 2 elements, expected 4"),
        ({"observation": "high = [0.0]"}, "observation: high has 1 elements, expected 4"),
        ({"observation": "low = 2\nhigh = 1"}, "low 2.0 must not be above high 1.0"),
        ({"observation": "low = 2\nhigh = [3, 3, 3, 1]"}, "low 2.0 must not be above"),
        ({"observation": "low = nan"}, "low nan must not be above"),
        ({"observation": "lov = 1"}, "observation.lov: Extra inputs are not permitted, found 1"),
        ({"actions": "labels = ['left']"}, "actions: 1 labels for 2 actions"),
        ({"actions": "masked = 'maybe'"}, "actions.masked: .* valid boolean.*, found 'maybe'"),
        ({"heuristic": "action = 2"}, "action 2 is not below 2"),
        ({"heuristic": "acton = 1"}, "heuristic.constant.acton: Extra inputs"),
        ({"top": "constant_action = 2"}, "constant_action 2 is not below the 2 of actions.count"),
        ({"top": "constant_action = -1"}, "constant_action: .* or equal to 0, found -1"),
        ({"top": "q_bound = 0"}, "q_bound: .* greater than 0, found 0"),
        ({"top": "q_bound = inf"}, "q_bound: .* finite number, found inf"),
        ({"top": "heuristics = 1"}, "heuristics: Extra inputs"),
        ({"top": "x = " + "[" * 5000}, "recursion"),
        ({"top": "x = " + "9" * 5000}, "integer"),
        ({"top": "x ="}, "Invalid value"),
    ],
)
def test_impossible_declaration_is_refused_by_name(
    tmp_path: Path, sections: dict[str, str], message: str
) -> None:
    with pytest.raises(DeclarationError, match=f"policy.toml: .*{message}"):
        read_declaration(written(tmp_path, **sections))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (DECLARED.replace("[4]", "[]"), "observation.shape: .* at least 1 item"),
        (DECLARED.replace("[4]", "[4, 0]"), r"shape \(4, 0\): every axis is at least 1"),
        (DECLARED.replace("[4]", "4"), "observation.shape: .* tuple, found 4"),
        (DECLARED.replace("count = 2", "count = 1"), "actions.count: .* equal to 2, found 1"),
        (DECLARED.replace("count = 2", ""), "actions.count: Field required$"),
        (DECLARED.replace("constant", "magic"), "heuristic: .*'magic'.*'linear'"),
        ("", "observation: Field required$"),
    ],
)
def test_declaration_that_misses_something_is_refused_by_name(
    tmp_path: Path, content: str, message: str
) -> None:
    plain = content.replace("{observation}", "").replace("{actions}", "")
    (tmp_path / "policy.toml").write_text(plain.replace("{heuristic}", ""), encoding="utf-8")
    with pytest.raises(DeclarationError, match=message):
        read_declaration(tmp_path)


def test_missing_or_undecodable_file_is_a_declaration_error(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="no such file"):
        read_declaration(tmp_path)
    (tmp_path / "policy.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(DeclarationError, match="utf-8"):
        read_declaration(tmp_path)


def test_schema_hash_changes_with_the_specs_and_with_nothing_else() -> None:
    declared = declaration()
    assert declared.schema_hash == declaration(constant_action=1, q_bound=3.0).schema_hash
    others = [
        declaration(observation=ObservationSpec(shape=(4,), low=-np.inf)),
        declaration(observation=ObservationSpec(shape=(4,), high=np.inf)),
        declaration(observation=ObservationSpec(shape=(2, 2))),
        declaration(actions=ActionSpec(count=2, labels=("right", "left"))),
    ]
    assert len({other.schema_hash for other in [declared, *others]}) == 5
    assert declared.schema_hash == "a3aeb8ee05e7960b"


def test_without_a_mask_every_action_is_legal() -> None:
    assert legal_actions(None, 2, 3).tolist() == [[True] * 3] * 2
    given = np.array([[True, False]])
    assert legal_actions(given, 1, 2) is given


def test_size_of_an_enormous_shape_does_not_overflow() -> None:
    assert ObservationSpec(shape=(2**40, 2**40)).size == 2**80


def test_an_audit_metric_sums_its_reports_or_takes_the_last() -> None:
    assert AuditMetric(name="a").total([1.0, 5.0, 2.0]) == 8.0
    assert AuditMetric(name="a", of_episode="last").total([1.0, 5.0, 2.0]) == 2.0
    assert AuditMetric(name="a").total([]) is None
