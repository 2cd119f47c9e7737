"""The first command of the README, and the call it shows, as a newcomer would type them."""

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import msgspec
import pytest

ROOT = Path(__file__).parent.parent
PORT = 8765
WAIT_SECONDS = 600.0


def readme_command(start: str) -> str:
    """The one command of the README's first screen that begins so."""
    found = re.findall(rf"^{start}.*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert found
    return str(found[0])


def wait_for_policy(url: str, process: "subprocess.Popen[str]") -> None:
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        assert process.poll() is None, process.communicate()[0]
        try:
            found = httpx.get(f"{url}/v1/policies").json()["policies"]
            if found and found[0]["source"] == "model":
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise AssertionError("the policy was never served")


def stop_while_training(command: list[str], training: Path) -> None:
    """Ctrl-C before the first policy is there: what was learned is gone on with."""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + WAIT_SECONDS
        while not list(training.glob("*/best")):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert list(training.glob("*/last"))
    assert not list(training.glob("*/trained"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_command_trains_exports_serves_and_its_agents_do_well(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{PORT}"
    command = [sys.executable, "-m", "cli", "run", "--port", str(PORT)]
    command += ["--data", str(tmp_path / "data"), "--steps-per-second", "500"]
    stop_while_training(command, tmp_path / "data" / "training")
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            wait_for_policy(url, process)
            curl = readme_command("curl").replace("http://127.0.0.1:8000", url)
            assert shutil.which("curl")
            told = subprocess.run(curl, shell=True, check=True, capture_output=True).stdout
            answer = msgspec.json.decode(told)
            assert answer["answered_by"][0]["source"] == "model"
            assert answer["actions"][0] in (0, 1)
            time.sleep(60.0)
            metrics = httpx.get(f"{url}/metrics").text
            assert re.search(r'dqn_outcomes_total{result="accepted"} [1-9]', metrics)
        finally:
            process.send_signal(signal.SIGINT)
            told_all = process.communicate(timeout=60)[0]
        assert process.returncode == 0, told_all
    assert told_all.rstrip().endswith("stopped")
    episodes, mean_return = re.findall(
        r"(\d+)\s+episodes, mean return of the last \d+:\s+([\d.]+)", told_all
    )[-1]
    assert int(episodes) >= 10
    assert float(mean_return) >= 475.0
    started_at = time.monotonic()
    again = subprocess.run(
        [*command, "--no-agents", "--seconds", "1"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    # Nothing is trained or exported a second time.
    assert "training" not in again.stdout
    assert time.monotonic() - started_at < 60
