"""The rules as Prometheus itself reads them. Debian's package `prometheus` brings promtool."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.dashboards.files import PROMETHEUS, RULES


def test_prometheus_accepts_the_configuration_and_its_rules() -> None:
    promtool("check", "config", str(PROMETHEUS / "prometheus.yml"))
    promtool("check", "rules", "--lint-fatal", *map(str, RULES))


@pytest.mark.parametrize(
    "path", sorted((PROMETHEUS / "tests").glob("*.yml")), ids=lambda path: path.stem
)
def test_every_rule_is_silent_and_fires_where_its_tests_say(path: Path) -> None:
    promtool("test", "rules", str(path))


def promtool(*arguments: str) -> None:
    program = shutil.which("promtool")
    assert program is not None, "promtool is needed: apt-get install prometheus"
    finished = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
