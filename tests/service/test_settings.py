import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.__main__ import main
from service.settings import ServiceSettings, SettingsError


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty working folder and none of our variables, as before and so after."""
    for name in list(os.environ):
        if name.startswith("DQN_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    yield
    # What a secret's file was read into would outlive the test.
    os.environ.pop("DQN_SERVE_REDIS_URL", None)


def test_flags_go_before_the_environment_and_that_before_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("dqn.toml").write_text("[serve]\nport = 1\nworkers = 2\nrows_max = 3\n", encoding="utf-8")
    monkeypatch.setenv("DQN_SERVE_PORT", "10")
    monkeypatch.setenv("DQN_SERVE_WORKERS", "20")
    settings = ServiceSettings.load(["--port", "100"])
    assert (settings.port, settings.workers, settings.rows_max) == (100, 20, 3)


def test_the_file_may_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text('[serve]\ndata = "elsewhere"\n', encoding="utf-8")
    monkeypatch.setenv("DQN_CONFIG", str(tmp_path / "other.toml"))
    assert ServiceSettings.load().data == Path("elsewhere")
    monkeypatch.setenv("DQN_CONFIG", str(tmp_path / "absent.toml"))
    with pytest.raises(SettingsError, match=r"absent\.toml"):
        ServiceSettings.load()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("[serve]\nprot = 1\n", "prot"),
        ("[serve]\nport = 70000\n", "port"),
        ("serve = 1\n", "serve"),
        ("[serve\n", "dqn.toml"),
    ],
)
def test_a_file_with_a_slip_is_refused(content: str, named: str) -> None:
    Path("dqn.toml").write_text(content, encoding="utf-8")
    with pytest.raises(SettingsError, match=named):
        ServiceSettings.load()


def test_a_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DQN_SERVE_BATCH_MAX_ROWZ", "64")
    with pytest.raises(SettingsError, match="DQN_SERVE_BATCH_MAX_ROWZ"):
        ServiceSettings.load()


def test_kubernetes_variables_for_a_service_named_dqn_are_not_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DQN_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("DQN_SERVICE_PORT", "80")
    assert ServiceSettings.load().port == 8000


def test_a_secret_is_read_from_the_file_that_holds_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "url").write_text("redis://:hush@localhost:6379\n", encoding="utf-8")
    monkeypatch.setenv("DQN_SERVE_REDIS_URL_FILE", str(tmp_path / "url"))
    settings = ServiceSettings.load()
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == "redis://:hush@localhost:6379"
    assert "hush" not in repr(settings)


def test_a_secret_given_twice_or_nowhere_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DQN_SERVE_REDIS_URL_FILE", str(tmp_path / "absent"))
    with pytest.raises(SettingsError, match="absent"):
        ServiceSettings.load()
    monkeypatch.setenv("DQN_SERVE_REDIS_URL_FILE", str(tmp_path / "absent"))
    monkeypatch.setenv("DQN_SERVE_REDIS_URL", "redis://localhost")
    with pytest.raises(SettingsError, match="both"):
        ServiceSettings.load()


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--port", "65536"),
        ("--workers", "0"),
        ("--deadline-ms", "0"),
        ("--deadline-ms", "1000.5"),
        ("--rows-max", "1025"),
        ("--batch-max-rows", "0"),
        ("--disk-free-share", "1"),
        ("--body-max-bytes", "1023"),
        ("--spool-commit-seconds", "0"),
        ("--log-level", "loud"),
    ],
)
def test_a_value_outside_its_range_is_refused_by_name(flag: str, value: str) -> None:
    with pytest.raises(SettingsError, match=flag[2:].replace("-", "_")):
        ServiceSettings.load([flag, value])


def test_the_default_deadline_may_not_exceed_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"deadline_ms 20\.0 is above deadline_max_ms 15\.0"):
        ServiceSettings.load(["--deadline-ms", "20", "--deadline-max-ms", "15"])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_without_keys_no_other_machine_is_let_in_unless_told(host: str) -> None:
    with pytest.raises(SettingsError, match="not loopback"):
        ServiceSettings.load(["--host", host])
    assert ServiceSettings.load(["--host", host, "--insecure"]).host == host
    assert ServiceSettings.load(["--host", host, "--keys-file", "keys"]).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    assert ServiceSettings.load(["--host", host]).keys_file is None


def test_check_says_whether_the_settings_hold_and_serves_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["--check", "--port", "0"]) == 0
    assert "valid" in capsys.readouterr().out
    assert main(["--check", "--port", "-1"]) == 2
    assert "port" in capsys.readouterr().err
    assert main(["--check", "--keys-file", "absent"]) == 2
    assert "absent" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
