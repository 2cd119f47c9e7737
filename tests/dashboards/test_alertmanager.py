"""Who is told of an alert, as Alertmanager itself routes it. Debian's package brings amtool."""

import shutil
import subprocess
from typing import Any

import pytest

from tests.dashboards.files import ROOT, read_yaml, rules

CONFIGURATION = ROOT / "dashboards" / "alertmanager" / "alertmanager.yml"
RECEIVERS = {"critical": "pager", "warning": "tickets", "none": "watchdog"}


def amtool(*arguments: str) -> str:
    program = shutil.which("amtool")
    assert program is not None, "amtool is needed: apt-get install prometheus-alertmanager"
    finished = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_alertmanager_accepts_the_configuration() -> None:
    amtool("check-config", str(CONFIGURATION))


@pytest.mark.parametrize("alert", rules("alert"), ids=lambda alert: str(alert["alert"]))
def test_an_alert_reaches_who_its_severity_says(alert: dict[str, Any]) -> None:
    severity = alert["labels"]["severity"]
    labels = (f"alertname={alert['alert']}", f"severity={severity}")
    routed = amtool("config", "routes", "test", f"--config.file={CONFIGURATION}", *labels)
    assert routed.split() == [RECEIVERS[severity]]


def test_only_alerts_that_exist_silence_others() -> None:
    names = {alert["alert"] for alert in rules("alert")}
    for rule in read_yaml(CONFIGURATION)["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            assert set(matcher.split('"')[1].split("|")) <= names
