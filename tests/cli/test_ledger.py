import json
from pathlib import Path

import pytest

from cli.ledger import main
from contract.ledger import LEDGER_FILE, Entry, FileLedger, append_latest


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    for version in (1, 2):
        promote(folder, version)
    return folder


def promote(folder: Path, version: int) -> None:
    entry = Entry(action="promote", policy="p", version=version, who="me", why="better")
    append_latest(FileLedger(folder / LEDGER_FILE), entry)


def run(verb: str, repository: Path, *more: Path) -> int:
    return main([verb, "--repository", str(repository), *map(str, more)])


def test_a_ledger_that_is_lost_comes_back_from_its_backup(repository: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup.jsonl"
    assert run("backup", repository, backup) == 0
    before = FileLedger(repository / LEDGER_FILE).read_after(0)
    (repository / LEDGER_FILE).unlink()
    assert run("restore", repository, backup) == 0
    assert FileLedger(repository / LEDGER_FILE).read_after(0) == before
    promote(repository, 3)
    assert len(FileLedger(repository / LEDGER_FILE).read_after(0)) == 3


def test_a_damaged_ledger_is_replaced_and_a_damaged_one_is_no_backup(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = tmp_path / "backup.jsonl"
    run("backup", repository, backup)
    with (repository / LEDGER_FILE).open("ab") as file:
        file.write(b"not an entry\n")
    assert run("backup", repository, tmp_path / "other") == 1
    assert "line 3" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    assert run("restore", repository, backup) == 0
    assert len(FileLedger(repository / LEDGER_FILE).read_after(0)) == 2


def test_an_old_backup_undoes_nothing_unseen(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = tmp_path / "backup.jsonl"
    run("backup", repository, backup)
    promote(repository, 3)
    assert run("restore", repository, backup) == 1
    assert "holds 3 entries" in capsys.readouterr().err
    assert run("restore", repository, tmp_path / "nowhere") == 1
    assert len(FileLedger(repository / LEDGER_FILE).read_after(0)) == 3


def test_the_ledger_is_told_a_line_an_entry(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "--repository", str(repository), "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["version"] for line in lines] == [1, 2]
    assert run("show", repository) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == [
        "p  promote 1  by me: better",
        "p  promote 2  by me: better",
    ]
