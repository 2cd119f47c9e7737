"""What a part of a dataset says of itself."""

from typing import Final, Literal, Self

import msgspec
from pydantic import Field, ValidationError

from contract.declaration import Fact, first_fault
from recorder.dataset.frames import FrameLayout

FORMAT_VERSION: Final = 1
MANIFEST_FILE: Final = "manifest.json"


class DatasetError(Exception):
    """A dataset, or a part of one, is missing or is not what was sealed."""


class DatasetBusyError(DatasetError):
    """Another process writes the dataset just now."""


class SourceShard(Fact):
    """A raw shard that was read to make a part."""

    number: int = Field(ge=1)
    sha256: str


class PartFile(Fact):
    """One file of a part."""

    size_bytes: int = Field(ge=0)
    sha256: str


class PartManifest(Fact):
    """Everything that must be known of a part without opening its tables."""

    format_version: Literal[1] = FORMAT_VERSION
    policy: str
    part_id: str
    """Made from the files' hashes: the same episodes in the same order are the same part."""
    schema_hash: str
    """Of the declaration that the observations and actions follow."""
    observation_shape: tuple[int, ...]
    observation_dtype: str
    num_actions: int | None
    """As wide as Q-values and masks are; None where no step has either."""
    num_episodes: int = Field(ge=1)
    num_complete_episodes: int = Field(ge=0)
    num_steps: int = Field(ge=1)
    num_rows: int = Field(ge=0)
    """Frames, or observations that are not stacked, each counted once."""
    total_return: float
    """Sum over all episodes, of rewards as they were reported."""
    versions: dict[str, int]
    """Steps of each version; `none` stands for heuristics without a model and for agents."""
    behaviours: dict[str, int]
    """Steps of each behaviour."""
    sources: dict[str, int]
    """Steps of `model` and of `heuristic`."""
    started_at: float
    """Of the earliest episode, Unix seconds."""
    ended_at: float
    """Of the episode that ended last."""
    shards: tuple[SourceShard, ...]
    """What was read; an episode lies in some of them."""
    replaces: tuple[str, ...] = ()
    """Parts whose episodes this one holds: they are passed over wherever they still are."""
    created_at: str
    """RFC 3339, UTC."""
    files: dict[str, PartFile]

    @property
    def layout(self) -> FrameLayout:
        """How the observations are stored."""
        return FrameLayout(self.observation_shape, self.observation_dtype)

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(file.size_bytes for file in self.files.values())

    def encode(self) -> bytes:
        """`manifest.json`, for people too."""
        return msgspec.json.format(self.model_dump_json().encode(), indent=2) + b"\n"

    @classmethod
    def decode(cls, content: bytes, where: str) -> Self:
        """Read `manifest.json`.

        Raises:
            DatasetError: It is none, or of a format that this release does not read.
        """
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            raise DatasetError(f"{where}: {first_fault(error)}") from error
