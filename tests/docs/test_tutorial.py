"""The tutorial, from its environment to its promoted canary."""

from pathlib import Path

import pytest

from contract.ledger import LEDGER_FILE, FileLedger
from tests.docs.pages import ROOT, run


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_environment_of_one_s_own_becomes_a_promoted_canary(tmp_path: Path) -> None:
    run(ROOT / "docs" / "tutorial.md", tmp_path)
    entries = FileLedger(tmp_path / "data" / "policies" / LEDGER_FILE).read_after(0)
    promoted = [entry.version for entry in entries if entry.action == "promote"]
    assert promoted == [1, 2]
    (verdict,) = (entry for entry in entries if entry.action == "canary")
    assert verdict.version == 2
