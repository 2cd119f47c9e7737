import json
from pathlib import Path

import pytest

from contract.rewards import RewardRules
from recorder.settings import RecorderSettings, SettingsError


def test_reward_rules_are_said_by_policy_or_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"*": {"horizon_steps": 500}, "pong": {"window_seconds": 60, "aggregate": "sum"}}
    monkeypatch.setenv("DQN_RECORD_REWARDS", json.dumps(said))
    rules = RecorderSettings.load().join_rules
    assert rules.rewards_of("cartpole") == rules.rewards_of(None) == RewardRules(horizon_steps=500)
    assert rules.rewards_of("pong") == RewardRules(window_seconds=60.0, aggregate="sum")


def test_flags_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DQN_RECORD_SEAL_SECONDS", "5")
    monkeypatch.setenv("DQN_RECORD_DATA", "elsewhere")
    settings = RecorderSettings.load(["--seal-seconds", "7"])
    assert (settings.seal_seconds, settings.shards_folder) == (7.0, Path("elsewhere/shards"))


def test_a_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DQN_RECORD_SEAL_SECOND", "5")
    with pytest.raises(SettingsError, match="DQN_RECORD_SEAL_SECOND"):
        RecorderSettings.load()


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--seal-seconds=30", "--lease-seconds=30"], "lease_seconds"),
        (["--redis-url=redis://a", "--redis-url-file=b"], "both"),
        (['--rewards={"pong": {"window_seconds": 9999}}'], "episode_timeout_seconds"),
        (['--rewards={"pong": {"default_reward": 1}}'], "window_seconds"),
    ],
)
def test_settings_that_contradict_one_another_are_refused(flags: list[str], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        RecorderSettings.load(flags)


def test_the_redis_url_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text("redis://:secret@host:6379/0\n", encoding="utf-8")
    settings = RecorderSettings.load([f"--redis-url-file={path}"])
    assert settings.read_redis_url() == "redis://:secret@host:6379/0"
    assert "secret" not in repr(settings)
    with pytest.raises(SettingsError, match="absent"):
        RecorderSettings.load([f"--redis-url-file={tmp_path}/absent"]).read_redis_url()
