"""The rules as Prometheus itself reads them. Debian's package `prometheus` brings promtool."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.dashboards.files import PROMETHEUS, ROOT, RULES


def test_prometheus_accepts_the_configuration_and_its_rules() -> None:
    promtool("check", "config", str(PROMETHEUS / "prometheus.yml"))
    promtool("check", "rules", "--lint-fatal", *map(str, RULES))


def test_prometheus_accepts_the_remote_write_that_influxdb_is_sent_by(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "influxdb.md").read_text(encoding="utf-8")
    (appended,) = re.findall(r"^```conf\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    shipped = (PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8")
    (tmp_path / "rules").symlink_to(PROMETHEUS / "rules")
    (tmp_path / "prometheus.yml").write_text(f"{shipped}\n{appended}", encoding="utf-8")
    promtool("check", "config", str(tmp_path / "prometheus.yml"))


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
