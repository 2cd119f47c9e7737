"""The server's configuration: `dqn.toml`, then `DQN_SERVE_…`, then flags."""

import os
import tomllib
from collections.abc import Sequence
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import (
    BaseSettings,
    CliApp,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

ENV_PREFIX: Final = "DQN_SERVE_"
"""Not DQN_SERVICE_: Kubernetes sets variables of that name beside a Service called dqn."""
CONFIG_FILE: Final = Path("dqn.toml")
_SECRETS: Final = ("redis_url",)


class SettingsError(Exception):
    """A setting is unknown, malformed or contradicts another."""


class ServiceSettings(BaseSettings):
    """Serve the policies of a repository over HTTP."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        frozen=True,
        extra="forbid",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        use_attribute_docstrings=True,
    )

    data: Path = Path("data")
    """Folder for all that is kept: repository, ledger, spool."""

    repository: Path | None = None
    """Folder of policies; `<data>/policies` where not set."""

    default_policy: str | None = None
    """The policy that answers where a request names none; needed only where there are several."""

    host: str = "127.0.0.1"
    """Address to listen on."""

    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""

    admin_listen: str | None = None
    """A second address, `host:port`: operator calls, console, metrics and probes are answered there
    alone, and `port` is for agents."""

    workers: int = Field(default=1, ge=1, le=64)
    """Worker processes behind the one port."""

    keys_file: Path | None = None
    """File of hashed keys (`dqn keys` writes it), re-read when it changes."""

    insecure: bool = False
    """Listen beyond loopback without keys."""

    deadline_ms: float = Field(default=10.0, gt=0, le=1000)
    """Time to answer in, from the last body byte, where a request names none."""

    deadline_max_ms: float = Field(default=1000.0, gt=0, le=60_000)
    """Longest deadline that a request may ask for."""

    body_max_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    """Largest request body."""

    rows_max: int = Field(default=1024, ge=1, le=1024)
    """Most observations in one request."""

    batch_max_rows: int = Field(default=256, ge=1, le=1024)
    """Most rows in one call of the model; a single request may exceed it."""

    queue_max_rows: int = Field(default=4096, ge=1)
    """Rows waiting for one policy beyond which the heuristic answers; beyond twice that, 429."""

    drift_window_rows: int = Field(default=2000, ge=200, le=100_000)
    """Sampled rows that drift is judged by at a time."""

    drift_window_seconds: float = Field(default=900.0, gt=0)
    """Shortest that such a window lasts; false alarms are counted in windows of this length."""

    episodes_max_bytes: int = Field(default=512 * 1024**2, ge=1024 * 1024)
    """Memory for the frame stacks and last answers of open episodes."""

    episode_silent_seconds: float = Field(default=600.0, gt=0)
    """How long an episode that nobody asks about is kept."""

    request_timeout_seconds: float = Field(default=10.0, gt=0)
    """Longest that a request may take to arrive."""

    keep_alive_seconds: float = Field(default=75.0, gt=0)
    """How long an idle connection is kept."""

    drain_notice_seconds: float = Field(default=2.0, ge=0)
    """How long a stopping worker says it is not ready and still answers: balancers are slow."""

    drain_seconds: float = Field(default=15.0, ge=0)
    """How long a stopping worker finishes what is in flight."""

    reload_seconds: float = Field(default=1.0, gt=0)
    """How often the repository and the ledger are looked at."""

    spool_commit_seconds: float = Field(default=0.2, gt=0, le=5)
    """Longest that a decision waits for its fsync."""

    spool_max_bytes: int = Field(default=20 * 1024**3, ge=1024 * 1024)
    """Size at which the spool accepts nothing more."""

    disk_free_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of the disk that the spool leaves free."""

    redis_url: SecretStr | None = None
    """Where the spool is shipped to; not set, it stays on this machine."""

    record: bool = True
    """Run the recorder beside the workers where no Redis is set; it reads `DQN_RECORD_…`."""

    execution_providers: tuple[Literal["cpu", "cuda", "tensorrt"], ...] = ("cpu",)
    """Where models run, in order of preference; each is proven by the same golden batch."""

    allowed_heuristics: tuple[str, ...] = ()
    """Python functions, `module:name`, that a policy may name as its heuristic."""

    grafana_url: str | None = Field(default=None, pattern=r"^https?://[^\s]+$")
    """Where the console's links to dashboards lead, such as `http://localhost:3000`."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is logged."""

    log_json: bool = False
    """Log as JSON lines."""

    trace_endpoint: str | None = Field(default=None, pattern=r"^https?://[^\s]+$")
    """Where spans of decisions are sent by OTLP over HTTP, such as
    `http://localhost:4318/v1/traces`; needs the extra `tracing`."""

    trace_share: float = Field(default=0.01, ge=0, le=1)
    """Share of requests without a `traceparent` that are traced; one with it says so itself."""

    @model_validator(mode="after")
    def _tracing_is_installed(self) -> Self:
        if self.trace_endpoint is not None and not _has_tracing():
            raise ValueError(
                "trace_endpoint: install the extra: pip install 'dqn-serving[tracing]'"
            )
        return self

    @model_validator(mode="after")
    def _no_open_door(self) -> Self:
        if self.keys_file is None and not self.insecure and not _is_loopback(self.host):
            raise ValueError(
                f"host {self.host} is not loopback and no keys_file is set: "
                "make one with `dqn keys`, or say --insecure"
            )
        if self.admin is not None:
            admin_host, admin_port = self.admin
            if self.keys_file is None and not self.insecure and not _is_loopback(admin_host):
                raise ValueError(
                    f"admin_listen {admin_host} is not loopback and no keys_file is set: "
                    "make one with `dqn keys`, or say --insecure"
                )
            if admin_port == self.port != 0:
                raise ValueError(f"admin_listen has the port {admin_port}, which is that of agents")
        if self.deadline_ms > self.deadline_max_ms:
            raise ValueError(
                f"deadline_ms {self.deadline_ms} is above deadline_max_ms {self.deadline_max_ms}"
            )
        return self

    @property
    def admin(self) -> tuple[str, int] | None:
        """Host and port of `admin_listen`; None where agents and operators share one port.

        Raises:
            ValueError: It is not `host:port`.
        """
        if self.admin_listen is None:
            return None
        host, _, port = self.admin_listen.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise ValueError(f"admin_listen: expected host:port, found {self.admin_listen!r}")
        return host.strip("[]"), int(port)

    @property
    def policies(self) -> Path:
        """The repository's folder."""
        return self.repository or self.data / "policies"

    @property
    def spool(self) -> Path:
        """The folder of all workers' spools."""
        return self.data / "spool"

    @property
    def pages(self) -> Path:
        """The folder in which workers keep their metrics."""
        return self.data / "run" / "metrics"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags and arguments, then the environment, then the file."""
        return init_settings, env_settings, _FileSource(settings_cls)

    @classmethod
    def load(cls, arguments: Sequence[str] = ()) -> Self:
        """Read file, environment and flags; refuse what no field reads (a typo, most often).

        Raises:
            SettingsError: A setting is unknown or impossible.
        """
        _take_secret_files()
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
                cli_settings_source=CliSettingsSource[Any](cls, cli_prog_name="dqn serve"),
            )
        except ValueError as error:
            raise SettingsError(str(error)) from error


class _FileSource(PydanticBaseSettingsSource):
    """`dqn.toml` in the working folder, or the file that DQN_CONFIG names."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        named = os.environ.get("DQN_CONFIG")
        path = Path(named) if named else CONFIG_FILE
        if not named and not path.exists():
            return {}
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"{path}: {error}") from error
        section = document.get("serve", {})
        if not isinstance(section, dict):
            raise SettingsError(f"{path}: [serve] must be a table")
        return section


def _has_tracing() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


def _take_secret_files() -> None:
    """Let `DQN_SERVE_REDIS_URL_FILE` name a file whose content is the secret."""
    for name in _SECRETS:
        variable = f"{ENV_PREFIX}{name}".upper()
        path = os.environ.pop(f"{variable}_FILE", None)
        if path is None:
            continue
        if variable in os.environ:
            raise SettingsError(f"both {variable} and {variable}_FILE are set")
        try:
            os.environ[variable] = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingsError(f"{variable}_FILE: {error}") from error


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
