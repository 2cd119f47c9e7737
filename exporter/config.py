"""What an export is told."""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt
from pydantic_settings import CliPositionalArg

from training.flags import Flags


class ExportConfig(Flags):
    """Turn a checkpoint into the next version of a policy."""

    checkpoint: CliPositionalArg[Path]
    """Folder of the checkpoint."""

    repository: Path
    """Folder of policies; made if it is not there."""

    policy: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    """Name over all versions."""

    declaration: Path | None = None
    """TOML file with the labels and the heuristic of a new policy; known for our presets."""

    allowed_heuristics: tuple[str, ...] = ()
    """Python functions, `module:name`, that a declared heuristic may run here."""

    parent: int | None = Field(default=None, ge=1)
    """The version that this one was trained on from."""

    source: Literal["training", "retraining"] = "training"
    """What made the checkpoint."""

    dataset_id: str | None = None
    """The dataset that it was trained on, if logged."""

    dataset_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Hash of that dataset."""

    profile_episodes: PositiveInt = 100
    """Greedy episodes of one round of the profile."""

    profile_observations: PositiveInt = 20_000
    """Rounds of the profile go on until it has as many observations, ten rounds at most."""

    floor_episodes: PositiveInt = 100
    """Episodes over which the heuristic's mean return is measured."""

    seed: int = Field(default=0, ge=0)
    """Seed of the episodes."""
