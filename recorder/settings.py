"""The recorder's configuration: `DQN_RECORD_…`, then flags."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, CliApp, CliSettingsSource, SettingsConfigDict

from contract.join import JoinRules
from contract.rewards import RewardRules

ENV_PREFIX: Final = "DQN_RECORD_"
EVERY_POLICY: Final = "*"


class SettingsError(Exception):
    """A setting is unknown, malformed or contradicts another."""


class RecorderSettings(BaseSettings):
    """Seal the transition log into shards, and watch rewards."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        frozen=True,
        extra="forbid",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        use_attribute_docstrings=True,
    )

    data: Path = Path("data")
    """Folder of the service: its spools are read here, and shards are written here."""

    shards: Path | None = None
    """Folder of shards, on a file system with hard links; `<data>/shards` where not set."""

    redis_url: SecretStr | None = None
    """Read streams here instead of the spools below `data`."""

    redis_url_file: Path | None = None
    """File whose content is `redis_url`."""

    seal_seconds: float = Field(default=10.0, gt=0, le=3600)
    """How often what has come is sealed: the age at which records appear in rewards."""

    shard_max_bytes: int = Field(default=64 * 1024**2, ge=1024 * 1024, le=1024**3)
    """About how many bytes of records one shard holds at most."""

    raw_days: float = Field(default=30.0, gt=0)
    """Raw shards are kept so long; longer while the dataset is without them."""

    dataset_seconds: float = Field(default=3600.0, ge=0)
    """How often closed episodes are added to the datasets; 0 leaves it to `dqn dataset build`."""

    dataset_limit_seconds: float = Field(default=21_600.0, ge=1)
    """A build that takes longer is broken off; what it has sealed stays."""

    datasets: str | None = None
    """Folder or URL (`s3://…`) of the datasets; `<data>/datasets` where not set."""

    lease_seconds: float = Field(default=30.0, ge=1, le=3600)
    """How long a stream stays with a recorder that does not answer; beyond `seal_seconds`."""

    hang_seconds: float = Field(default=600.0, ge=1, le=86_400)
    """A recorder that gets not one shard further within a pass for so long ends itself, so that
    another can be started."""

    name: str | None = None
    """What this recorder is called in the ledger; the host's name where not set."""

    judge_lease_seconds: float = Field(default=90.0, ge=1, le=7200)
    """After so long without a word of the judge of a rollout, another recorder takes over."""

    episode_timeout_seconds: float = Field(default=3600.0, gt=0)
    """An open episode without a new record for so long is closed as timed out."""

    open_episodes_max: int = Field(default=100_000, ge=1)
    """Beyond it the longest silent episode is closed, and counted as evicted."""

    rewards: dict[str, RewardRules] = Field(default_factory=dict)
    """Policy, or `*`, to reward rules, as JSON: `{"pong": {"window_seconds": 60}}`."""

    metrics_host: str = "127.0.0.1"
    """Address on which metrics are told."""

    metrics_port: int = Field(default=8001, ge=0, le=65535)
    """Port of `/metrics`; 0 takes a free one."""

    parent_descriptor: int | None = None
    """Stop once this descriptor is readable: whoever started the process is gone."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is logged."""

    log_json: bool = False
    """Log as JSON lines."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.redis_url is not None and self.redis_url_file is not None:
            raise ValueError("both redis_url and redis_url_file are set")
        if self.lease_seconds <= self.seal_seconds:
            raise ValueError(
                f"lease_seconds {self.lease_seconds} must be above seal_seconds "
                f"{self.seal_seconds}: a lease is renewed at every pass"
            )
        if self.judge_lease_seconds <= self.seal_seconds:
            raise ValueError(
                f"judge_lease_seconds {self.judge_lease_seconds} must be above seal_seconds "
                f"{self.seal_seconds}: a judge says nothing between passes"
            )
        longest = max((each.window_seconds or 0.0 for each in self.rewards.values()), default=0.0)
        if longest > self.episode_timeout_seconds:
            raise ValueError(
                f"window_seconds {longest} is above episode_timeout_seconds "
                f"{self.episode_timeout_seconds}: no episode would wait so long"
            )
        return self

    @property
    def shards_folder(self) -> Path:
        """Where shards are."""
        return self.shards or self.data / "shards"

    @property
    def dataset_root(self) -> str | Path:
        """Where datasets are."""
        return self.datasets or self.data / "datasets"

    @property
    def spools(self) -> Path:
        """Where the workers' spools are."""
        return self.data / "spool"

    @property
    def join_rules(self) -> JoinRules:
        """How records are joined."""
        return JoinRules(
            episode_timeout_seconds=self.episode_timeout_seconds,
            max_open_episodes=self.open_episodes_max,
            rewards=self.rewards.get(EVERY_POLICY, RewardRules()),
            rewards_by_policy=self.rewards,
        )

    def read_redis_url(self) -> str | None:
        """The URL with its password; None where spools are read.

        Raises:
            SettingsError: The file that holds it cannot be read.
        """
        if self.redis_url is not None:
            return self.redis_url.get_secret_value()
        if self.redis_url_file is None:
            return None
        try:
            return self.redis_url_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingsError(f"redis_url_file: {error}") from error

    @classmethod
    def load(cls, arguments: Sequence[str] = ()) -> Self:
        """Read environment and flags; refuse what no field reads (a typo, most often).

        Raises:
            SettingsError: A setting is unknown or impossible.
        """
        known = {f"{ENV_PREFIX}{name}".upper() for name in cls.model_fields}
        unknown = sorted(
            name for name in os.environ if name.startswith(ENV_PREFIX) and name not in known
        )
        if unknown:
            raise SettingsError(f"unknown settings: {', '.join(unknown)}")
        try:
            return CliApp.run(
                cls,
                cli_args=list(arguments),
                cli_settings_source=CliSettingsSource[Any](cls, cli_prog_name="dqn record"),
            )
        except ValueError as error:
            raise SettingsError(str(error)) from error
