"""Status of a real service, before and after what happens to one at night."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from cli.__main__ import main
from tests import builders
from tests.service.process import Process, process
from tests.service.running import promote, wait_until

NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    builders.write_policy(tmp_path / "policies")
    promote(tmp_path)
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, str]:
    capsys.readouterr()
    status = main(["status", f"--recorder={NOBODY}", *flags])
    return status, capsys.readouterr().out


def url_of(service: Process) -> str:
    return str(service.client.base_url)


def test_a_night_is_one_timeline(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with process(data, "--workers=1") as service:
        service.wait_until_ready()
        os.kill(service.pid, signal.SIGKILL)
        wait_until(lambda: not service.is_ready(), "the workers have gone with it")
    declared = builders.declaration(q_bound=7.0)
    builders.write_policy(data / "policies", declared, version=2)
    with process(data, "--workers=1", "--queue-max-rows=99") as service:
        service.wait_until_ready()
        (worker,) = service.workers()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: service.workers() not in ([], [worker]), "another worker")
        service.wait_until_ready()
        body = {"why": "odd actions in the north"}
        assert service.client.post("/v1/policies/cartpole/pin", json=body).is_success
        status, text = told(capsys, f"--server={url_of(service)}", "--since=1h")
    assert status == 0
    lines = text.splitlines()
    happened = [
        "started, release",
        "cartpole: version 1 live",
        "; the run before it ended without a word  -> dmesg",
        "config   cartpole/policy.toml: ",
        "config   queue_max_rows: 4096 -> 99",
        f"died and was replaced: worker 0, pid {worker}, by signal 9  -> the service's log",
        "cartpole: pinned to the heuristic, by anonymous: odd actions in the north  -> dqn unpin",
    ]
    missing = [each for each in happened if each not in text]
    assert missing == []
    places = [next(n for n, line in enumerate(lines) if each in line) for each in happened]
    assert places == sorted(places)
    assert "the HEURISTIC answers; join ratio unknown; drift not armed  -> dqn policies" in text
    assert "alerts: no Prometheus is named" in text
    assert "join ratio: the recorder does not answer at http://127.0.0.1:1" in text


def test_without_since_there_is_no_timeline(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with process(data) as service:
        service.wait_until_ready()
        status, text = told(capsys, f"--server={url_of(service)}")
    assert status == 0
    assert "server       ready\n" in text
    assert "stable 1, the model answers" in text
    assert "started" not in text


def test_where_the_server_is_away_its_files_are_read(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with process(data) as service:
        service.wait_until_ready()
        assert service.stop() == 0
    asked = (f"--server={NOBODY}", "--since=1h")
    status, text = told(capsys, *asked, f"--data={data}")
    assert status == 1
    assert "server       unreachable" in text
    assert "process  stopped, by a signal" in text
    assert "version 1 made stable, by test: to serve" in text
    status, text = told(capsys, *asked, f"--data={data / 'elsewhere'}")
    assert "is not here either (--data)" in text


@pytest.mark.slow
def test_alerts_and_the_join_ratio_are_prometheus_s(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with prometheus(data) as url, process(data) as service:
        service.wait_until_ready()
        wait_until(lambda: num_firing(url) == 2, "the alerts fire")
        flags = (f"--server={url_of(service)}", f"--prometheus={url}", "--since=10m")
        status, text = told(capsys, *flags, f"--alertmanager={NOBODY}")
        assert status == 0
        assert "ALERT        critical RewardLow (cartpole, canary) since" in text
        assert "Watchdog" not in text
        assert "join ratio 0.75" in text
        assert "silences: Alertmanager does not answer: http://127.0.0.1:1" in text
        lines = [line for line in text.splitlines() if " ALERT    " in line]
        assert len(lines) == 1
        assert lines[0].endswith("critical RewardLow (cartpole, canary)  -> wiki/RewardLow")
        assert "cartpole: join ratio fell to 0.75" in text
        found = json.loads(told(capsys, *flags, "--json")[1])
        assert found["join_ratios"] == {"cartpole": 0.75}
        assert found["firing"][0][0]["alertname"] == "RewardLow"


def num_firing(url: str) -> int:
    try:
        answer = httpx.get(f"{url}/api/v1/query", params={"query": "ALERTS"})
    except httpx.TransportError:
        return 0
    return len(answer.json()["data"]["result"]) if answer.is_success else 0


RULES = """
groups:
  - name: night
    rules:
      - record: dqn_join_ratio
        expr: label_replace(vector(0.75), "policy", "cartpole", "", "")
      - alert: Watchdog
        expr: vector(1)
      - alert: RewardLow
        expr: vector(1)
        labels: {severity: critical, policy: cartpole, variant: canary}
        annotations: {runbook_url: wiki/RewardLow}
"""


@contextmanager
def prometheus(folder: Path) -> Iterator[str]:
    """A real one, in which an alert fires at once."""
    (folder / "rules.yml").write_text(RULES, encoding="utf-8")
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {evaluation_interval: 1s}\nrule_files: [rules.yml]\n", encoding="utf-8"
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (folder / "prometheus.log").open("wb") as log:
        started = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        started.terminate()
        started.wait(30)
