import json
import time
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from cli.replay import logged, main, replay
from contract.bundle import read_bundle
from contract.records import AnsweredBy, Column, DecisionBatch, encode_record
from contract.segments import SegmentWriter
from recorder.seal import Sealer
from recorder.sources import OneSpool
from service.inference.policy import Policy
from service.inference.proof import prove
from tests import builders

LEFT, RIGHT = [0.0, 0.0, -0.1, 0.0], [0.0, 0.0, 0.1, 0.0]
"""The linear policy pushes to the side the pole falls to: 0 and 1."""
HEURISTIC = AnsweredBy(1, "stable", "heuristic", "deadline", "heuristic/constant@0")


def seal(data: Path, *batches: DecisionBatch) -> Path:
    folder = data / "spool" / "p"
    folder.mkdir(parents=True)
    writer = SegmentWriter(folder, 0)
    writer.append([encode_record(batch) for batch in batches])
    writer.close()
    Sealer(data / "shards", OneSpool(folder), 2**20, "test").seal(1.0)
    return data / "shards"


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    return prove(read_bundle(builders.write_policy(tmp_path / "policies")))


def test_a_version_is_held_against_what_was_chosen(policy: Policy) -> None:
    # Of LEFT its Q-values are 0.32 and -0.29, of RIGHT -0.28 and 0.31; logged are zeros.
    batch = builders.decision_batch([LEFT, RIGHT, RIGHT, LEFT], actions=[0, 1, 0, 1])
    found = replay(policy, [batch])
    assert (found.rows, found.disagreements, found.fallbacks) == (4, 2, 0)
    assert found.mean_q_gap == pytest.approx((0.32 + 0.31) / 2, abs=1e-6)
    assert found.milliseconds_a_row is not None


def test_rows_of_a_heuristic_or_drawn_at_random_say_nothing(policy: Policy) -> None:
    mixed = builders.decision_batch(
        [LEFT, RIGHT],
        actions=[1, 0],
        answered_by=[builders.MODEL, HEURISTIC],
        answered_by_index=[1, 0],
    )
    drawn = builders.decision_batch([LEFT] * 5, actions=[1] * 5, epsilon=0.1)
    found = replay(policy, [mixed, drawn])
    assert (found.rows, found.disagreements) == (1, 1)
    assert replay(policy, [drawn]).mean_q_gap is None


def test_observations_of_another_shape_are_passed_over(policy: Policy) -> None:
    assert replay(policy, [builders.decision_batch(np.zeros((3, 7), np.float32))]).rows == 0


def test_rows_beyond_the_bound_would_have_fallen_back(tmp_path: Path) -> None:
    bounded = builders.write_policy(tmp_path, q_bound=0.3)
    # Only the Q-values of LEFT and RIGHT are beyond: 0.32 and 0.31.
    batch = builders.decision_batch([LEFT, RIGHT, [0.0, 0.0, 0.0, 0.0]], actions=[0, 1, 0])
    assert replay(prove(read_bundle(bounded)), [batch]).fallbacks == 2


def test_what_is_older_late_or_without_observations_is_not_replayed(tmp_path: Path) -> None:
    blank = Column.of(np.zeros((2, 0), np.uint8))
    shards = seal(
        tmp_path,
        builders.decision_batch([LEFT], time=100.0),
        builders.decision_batch([LEFT, RIGHT], time=200.0),
        builders.decision_batch([LEFT] * 3, time=200.0, is_late=True),
        structs.replace(builders.decision_batch([LEFT, RIGHT], time=200.0), observations=blank),
    )
    found = list(logged(shards, builders.POLICY, since=150.0))
    assert [len(batch.steps) for batch in found] == [2]


def test_the_verb_tells_of_the_versions_of_a_data_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    builders.write_policy(tmp_path / "policies")
    builders.write_policy(
        tmp_path / "policies", weights=builders.WEIGHTS[::-1], bias=builders.BIAS[::-1], version=2
    )
    now = time.time()
    seal(tmp_path, builders.decision_batch([LEFT, RIGHT], actions=[0, 1], time=now - 60))
    for version, disagreements in ((1, 0), (2, 2)):
        asked = [builders.POLICY, f"--version={version}", "--since=1h", f"--data={tmp_path}"]
        assert main([*asked, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["rows"], told["disagreements"]) == (2, disagreements)
    assert main([*asked]) == 0
    assert "100.00%" in capsys.readouterr().out
    assert main([builders.POLICY, "--version=9", f"--data={tmp_path}"]) == 1
    assert "9" in capsys.readouterr().err
