from pathlib import Path

import yaml

from benchmarks.drill.scaled_rules import write_scaled
from benchmarks.rules.mutants import mutants_of

RULE = {
    "alert": "Slow",
    "expr": 'rate(dqn_x_total{code="5m"}[5m] offset 1h) > 100 and rate(dqn_x_total[1m]) < 3',
    "for": "2m",
}
DOCUMENT = {"groups": [{"name": "g", "rules": [RULE]}]}


def test_a_drill_shortens_windows_and_deadlines_and_no_threshold(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    (tmp_path / "from" / "rules.yml").write_text(yaml.safe_dump(DOCUMENT))
    (written,) = write_scaled(tmp_path / "from", tmp_path / "to")
    scaled = yaml.safe_load(written.read_text())["groups"][0]["rules"][0]
    # A minute would be two seconds: too few scrapes for a rate.
    assert scaled["expr"] == (
        'rate(dqn_x_total{code="5m"}[10s] offset 120s) > 100 and rate(dqn_x_total[5s]) < 3'
    )
    assert scaled["for"] == "4s"


def test_a_mutant_differs_in_one_place_that_is_no_label_and_no_window() -> None:
    mutants = list(mutants_of(DOCUMENT))
    exprs = [mutant.document["groups"][0]["rules"][0]["expr"] for mutant in mutants]
    assert all("[5m]" in expr and 'code="5m"' in expr and "[1m]" in expr for expr in exprs)
    changes = [mutant.change.partition(" at ")[0] for mutant in mutants]
    assert changes == [
        "> -> >=",
        "> -> <",
        "100 -> 110",
        "100 -> 90",
        "and -> or",
        "< -> <=",
        "< -> >",
        "3 -> 3.3",
        "3 -> 2.7",
        "for 2m -> twice",
        "for 2m -> none",
    ]
    assert DOCUMENT["groups"][0]["rules"][0] == RULE
