"""`python -m benchmarks.rules`: how many wrong rules the promtool tests notice. Needs promtool."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

from benchmarks.report import Figure, print_figures, write_result
from benchmarks.rules.mutants import Mutant, mutants_of

_PROMETHEUS: Final = Path("dashboards/prometheus")
_QUICK: Final = 12


def main(arguments: Sequence[str]) -> int:
    """Try every mutant; 1 if too many live."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rules", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK} mutants of the drift rules")
    parser.add_argument("--write", action="store_true", help="write the result file")
    parser.add_argument("--files", nargs="*", help="only these files of rules, such as slo")
    options = parser.parse_args(arguments)
    paths = sorted((_PROMETHEUS / "rules").glob("*.yml"))
    wanted = ["drift"] if options.quick else options.files
    figures, num_mutants, num_killed = [], 0, 0
    for path in paths:
        if wanted and path.stem not in wanted:
            continue
        mutants = list(mutants_of(yaml.safe_load(path.read_text(encoding="utf-8"))))
        mutants = mutants[:_QUICK] if options.quick else mutants
        tests = _tests_of(path.name)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            killed = sum(pool.map(partial(_is_killed, path, tests), mutants))
        figures.append(Figure(f"{path.name}: killed of {len(mutants)}", killed, "mutants"))
        num_mutants, num_killed = num_mutants + len(mutants), num_killed + killed
    share = num_killed / max(1, num_mutants)
    total = Figure.at_least(f"killed of {num_mutants} mutants of rules", share, "share", 0.95)
    print_figures("alert rules", [total, *figures])
    if options.write:
        command = ["python", "-m", "benchmarks.rules", *arguments]
        print("written to", write_result("rules", command, (), [total, *figures]))
    return 0 if total.met else 1


def _is_killed(path: Path, tests: Sequence[str], mutant: Mutant) -> bool:
    """Whether one of the tests of the file's rules fails."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shutil.copytree(_PROMETHEUS, root, dirs_exist_ok=True)
        changed = root / "rules" / path.name
        changed.write_text(yaml.safe_dump(mutant.document), encoding="utf-8")
        for name in tests:
            finished = subprocess.run(
                ["promtool", "test", "rules", str(root / "tests" / name)],
                capture_output=True,
                check=False,
            )
            if finished.returncode:
                return True
    print(f"lives: {path.name} {mutant.rule}: {mutant.change}", flush=True)
    return False


def _tests_of(rules: str) -> list[str]:
    """The test files that read these rules, the shortest first."""

    def reads(path: Path) -> bool:
        document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        return any(Path(name).name == rules for name in document["rule_files"])

    found = [path for path in (_PROMETHEUS / "tests").glob("*.yml") if reads(path)]
    return [path.name for path in sorted(found, key=lambda path: path.stat().st_size)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
