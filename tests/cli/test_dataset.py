import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cli.__main__ import main
from contract.declaration import LoggingRules, write_declaration
from recorder.dataset.store import DatasetStore
from recorder.shards import raw_folder, shard_path
from tests.builders import POLICY, declaration
from tests.recorder.dataset.episodes import HEURISTIC, Log, episode_records

BEGIN = 1_000_000_000.0
"""2001-09-09T01:46:40Z"""
FOR_EVER = 1e6
"""Days that a policy of these tests keeps its episodes for."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two episodes in the north by the model, a day later one in the south by the heuristic."""
    log = Log(tmp_path / "shards")
    north, south = [{"region": "north"}], [{"region": "south"}]
    log.seal(
        [
            *episode_records("a", [1.0, 2.0], begin=BEGIN, tags=north),
            *episode_records("b", [3.0], begin=BEGIN + 60, tags=north),
        ]
    )
    log.seal(episode_records("c", [9.0], begin=BEGIN + 86400, tags=south, answered_by=HEURISTIC))
    keep_for(tmp_path, FOR_EVER)
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], data: Path, *arguments: str) -> Any:
    """What a verb says as JSON; it must succeed."""
    assert main(["dataset", *arguments, "--data", str(data), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def built(data: Path) -> Path:
    assert main(["dataset", "build", "--data", str(data)]) == 0
    return data


def keep_for(data: Path, days: float) -> None:
    folder = data / "policies" / POLICY
    folder.mkdir(parents=True, exist_ok=True)
    write_declaration(folder, declaration(logging=LoggingRules(retention_days=days)))


def test_what_is_built_is_listed_shown_and_broken_down(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built(data)
    assert "2 new shards, 3 episodes sealed" in capsys.readouterr().out
    (listed,) = told(capsys, data, "list")
    assert (listed["policy"], listed["num_episodes"], listed["num_steps"]) == (POLICY, 3, 4)
    assert listed["mean_return"] == 5.0
    shown = told(capsys, data, "show", POLICY)
    assert shown["steps_by_source"] == {"model": 3, "heuristic": 1}
    assert (shown["first_shard"], shown["last_shard"]) == (1, 2)
    assert shown["dataset_id"].startswith("cartpole-")
    north, south = told(capsys, data, "top", POLICY, "--by", "region")
    assert (north["value"], north["num_steps"], north["heuristic_share"]) == ("north", 3, 0.0)
    assert (south["value"], south["mean_reward"], south["heuristic_share"]) == ("south", 9.0, 1.0)
    (later,) = told(capsys, data, "top", POLICY, "--by", "region", "--from", "2001-09-10")
    assert later["value"] == "south"


@pytest.mark.parametrize("verb", [["list"], ["show", POLICY], ["top", POLICY, "--by", "region"]])
def test_people_get_tables(data: Path, verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    built(data)
    assert main(["dataset", *verb, "--data", str(data)]) == 0
    out = capsys.readouterr().out
    assert "north" in out if verb[0] == "top" else "2001-09-09T01:46:40+00:00" in out


def test_building_twice_seals_nothing_twice(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built(data)
    capsys.readouterr()
    built(data)
    assert "0 new shards, 0 episodes sealed" in capsys.readouterr().out
    assert len(DatasetStore(data / "datasets").parts(POLICY)) == 1


def test_episodes_are_kept_as_long_as_the_policy_declares(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built(data)
    assert "0 parts older than 1e+06 days removed" in capsys.readouterr().out
    keep_for(data, 90.0)
    built(data)
    assert "1 parts older than 90 days removed" in capsys.readouterr().out
    assert told(capsys, data, "list") == []
    # Its shards are still there, and are not read again.
    built(data)
    capsys.readouterr()
    assert told(capsys, data, "list") == []


def test_a_range_is_quarantined_and_lifted_again(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built(data)
    capsys.readouterr()
    before = told(capsys, data, "show", POLICY)["dataset_id"]
    flags = ["--data", str(data), "--who", "ana", "--why", "sensor broke"]
    span = ["--from", str(BEGIN + 50), "--to", str(BEGIN + 70)]
    assert main(["dataset", "quarantine", POLICY, *span, *flags]) == 0
    capsys.readouterr()
    (north, _) = told(capsys, data, "top", POLICY, "--by", "region")
    assert north["num_steps"] == 2
    shown = told(capsys, data, "show", POLICY)
    (entry,) = shown["quarantines"]
    assert (entry["who"], entry["why"]) == ("ana", "sensor broke")
    assert shown["dataset_id"] != before
    lift = ["--lift", entry["entry_id"]]
    assert main(["dataset", "quarantine", POLICY, *lift, *flags]) == 0
    capsys.readouterr()
    assert told(capsys, data, "show", POLICY)["dataset_id"] == before


def test_an_audit_tells_what_is_whole_and_what_is_not(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built(data)
    capsys.readouterr()
    (producer,) = told(capsys, data, "audit")["producers"]
    # Three episodes of four steps, a decision and an outcome each.
    assert (producer["records"], producer["gaps"], producer["doubled"]) == (8, [], 0)
    (part,) = DatasetStore(data / "datasets").parts(POLICY)
    path = data / "datasets" / POLICY / "parts" / part.part_id / "steps.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    capsys.readouterr()
    assert main(["dataset", "audit", "--data", str(data)]) == 1
    assert f"{part.part_id}/steps.parquet" in capsys.readouterr().out
    shard_path(raw_folder(data / "shards", POLICY), 1).unlink()
    (data / "datasets").rename(data / "elsewhere")
    assert main(["dataset", "audit", "--data", str(data)]) == 0
    shard_path(raw_folder(data / "shards", POLICY), 2).write_bytes(b"{}")
    assert main(["dataset", "audit", "--data", str(data)]) == 1


def test_a_dataset_is_exported_in_both_formats(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built(data)
    flags = ["--data", str(data), "--out"]
    assert main(["dataset", "export", POLICY, *flags, str(tmp_path / "t.parquet")]) == 0
    assert pq.read_table(tmp_path / "t.parquet").num_rows == 4
    minari = [*flags, str(tmp_path / "minari"), "--format", "minari"]
    assert main(["dataset", "export", POLICY, *minari]) == 0
    assert (tmp_path / "minari" / "dqn" / "cartpole-v0" / "data" / "metadata.json").exists()
    assert main(["dataset", "export", POLICY, *minari]) == 1
    assert "there is a dataset of that name" in capsys.readouterr().err


def test_a_policy_without_a_dataset_is_named(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dataset", "show", "pong", "--data", str(data)]) == 1
    assert "pong" in capsys.readouterr().err
    assert main(["dataset", "quarantine", POLICY, "--why", "x", "--data", str(data)]) == 1
    assert "--from and --to" in capsys.readouterr().err
