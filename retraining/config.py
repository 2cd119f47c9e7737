"""What retraining is told."""

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt

from retraining.dynamics import DynamicsConfig
from retraining.fitted_q import FittedQConfig
from retraining.gate import GateLimits
from retraining.practice import PracticeConfig
from training.config import Flags
from training.offline import OfflineConfig

_SERVER = "http://127.0.0.1:8000"
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: object) -> object:
    """Seconds of words such as `6h`, `90m` or `30`; what is no text stays as it is.

    Raises:
        ValueError: It is none of these.
    """
    if not isinstance(text, str):
        return text
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    if found is None:
        raise ValueError(f"expected a duration such as 6h, 90m or 30s, found {text!r}")
    return float(found[1]) * _SECONDS[found[2] or "s"]


Duration = Annotated[PositiveFloat, BeforeValidator(parse_duration)]


class RetrainConfig(Flags):
    """Make better versions of a policy from what it logged, and put them on trial.

    A cycle reads the sealed log, learns, judges, exports, registers, shadows and starts a canary;
    what a cycle learned too little to pass ships nothing. One that was cut off goes on where it
    was. Promotion is not its business: the judge's evidence decides, as for any canary.
    """

    policy: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    """Whose log, and whose next version."""

    once: bool = False
    """Run one cycle, or go on with the one that was cut off, and stop."""

    every: Duration | None = None
    """Run a cycle so often, such as 6h."""

    dry_run: bool = False
    """Stop after the verdict: nothing is exported, and no server is told anything."""

    data: Path = Path("data")
    """The service's folder: `policies`, `shards`, `datasets` and `retraining` lie in it."""

    datasets: str | None = Field(default_factory=lambda: os.environ.get("DQN_RECORD_DATASETS"))
    """Folder or URL (`s3://…`) of the datasets; else where `DQN_RECORD_DATASETS` tells the
    recorder, and without it `<data>/datasets`."""

    checkpoints: tuple[Path, ...] = ()
    """Folders below which the checkpoints of the first versions lie; `<data>/training` else."""

    server: str = Field(default_factory=lambda: os.environ.get("DQN_SERVER", _SERVER))
    """Where the service's operator calls are; `DQN_SERVER` where it is set, as for other verbs."""

    key_file: Path | None = None
    """File with a key of the scopes `read` and `submit`."""

    least_new_steps: int = Field(default=5_000, ge=0)
    """Steps sealed since the last cycle without which none begins."""

    most_steps: PositiveInt = 200_000
    """How many of the newest steps are learned from; half as many older ones are rehearsed."""

    held_out_share: float = Field(default=0.4, gt=0, lt=1)
    """Of the episodes, to judge the chosen candidate by; the others are learned from."""

    suspicious_share: float = Field(default=0.2, ge=0, le=1)
    """Of the episodes: where more do not fit the policy, nothing is learned."""

    simulated_episodes: int = Field(default=0, ge=0)
    """Episodes of the checkpoint's environment to play beside the gate; only told."""

    shadow_share: float = Field(default=0.1, gt=0, le=1)
    """Of the traffic, that the candidate sees before it answers any."""

    shadow_seconds: float = Field(default=600.0, ge=0)
    """How long it only looks on."""

    canary_when_inconclusive: bool = False
    """Also try a candidate of which the gate says neither good nor bad, on a hundredth of the
    traffic; only a person can promote it. Otherwise it looks on, and a person decides."""

    profile_episodes: PositiveInt = 100
    """As for `dqn export`."""

    profile_observations: PositiveInt = 20_000
    """As for `dqn export`."""

    floor_episodes: PositiveInt = 100
    """As for `dqn export`."""

    processes: PositiveInt = 1
    """Processes that share the learning of each candidate."""

    keep_versions: PositiveInt = 10
    """Versions of retraining that are kept beside those with an alias."""

    offline: OfflineConfig = OfflineConfig()
    """How candidates are learned."""

    dynamics: DynamicsConfig = DynamicsConfig()
    """How a model of the environment is learned, in which they are played."""

    practice: PracticeConfig = PracticeConfig()
    """How more of them are learned in one, where the gate plays them in one."""

    fitted: FittedQConfig = FittedQConfig()
    """How their values are estimated where no model can be believed."""

    limits: GateLimits = GateLimits()
    """What they are held to."""

    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    """Port of `/metrics`; none where not set."""

    metrics_host: str = "127.0.0.1"
    """Address that `/metrics` listens on."""

    memory_bytes: PositiveInt = 4 * 1024**3
    """Data that the process may hold: it fails rather than take memory from a service beside it."""

    seed: int = Field(default=0, ge=0)
    """All randomness comes from this and the cycle's number."""

    @property
    def folder(self) -> Path:
        """Where this policy's cycles are."""
        return self.data / "retraining" / self.policy

    @property
    def dataset_root(self) -> str | Path:
        """Where datasets are."""
        return self.datasets or self.data / "datasets"

    @property
    def policy_directory(self) -> Path:
        """Where its versions are."""
        return self.data / "policies" / self.policy

    @property
    def checkpoint_roots(self) -> tuple[Path, ...]:
        """Below which checkpoints are looked for, this policy's cycles first."""
        return (self.folder, *(self.checkpoints or (self.data / "training",)))
