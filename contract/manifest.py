"""Everything a bundle promises: what it takes and gives, how it did in training, its lineage."""

from typing import Literal

import msgspec
from pydantic import Field, ValidationError

from contract.conduct import ConductReference
from contract.declaration import (
    ActionSpec,
    Fact,
    ObservationSpec,
    PolicyDeclaration,
    Record,
    first_fault,
)
from contract.drift_reference import DriftReference

FORMAT_VERSION = 1

OBSERVATIONS = "observations"
ACTION_MASK = "action_mask"
ACTIONS = "actions"
Q_VALUES = "q_values"
FEATURES = "features"
MAX_FEATURES = 64


class ManifestError(Exception):
    """A manifest is not one, or is of a format this release does not read."""


class Distribution(Fact):
    """A one-dimensional sample, summarised."""

    count: int = Field(ge=0)
    mean: float
    sd: float = Field(ge=0)
    minimum: float
    maximum: float
    deciles: tuple[float, ...] = Field(default=(), max_length=9)
    """The nine inner deciles."""


class Profile(Fact):
    """How the policy behaved in its training environment: what drift and falls are judged by."""

    episode_return: Distribution
    """Undiscounted return of an episode, before any reward transform."""
    episode_length: Distribution
    reward: Distribution
    """Per step, before any reward transform."""
    max_q: Distribution
    """max over actions of Q, in transformed units."""
    absolute_q_maximum: float = Field(ge=0)
    """Largest |Q| met in training, in transformed units."""
    observation_deciles: tuple[tuple[float, ...], ...] = ()
    """Nine inner deciles of each observation element; empty for frames."""
    feature_deciles: tuple[tuple[float, ...], ...] = ()
    q_value_deciles: tuple[tuple[float, ...], ...] = ()
    """Of each action's Q-value."""
    action_frequencies: tuple[float, ...] = ()
    num_observations: int = Field(ge=0)
    drift: DriftReference | None = None
    """What drift is judged by; None: not armed."""
    conduct: ConductReference | None = None
    """What reward hacking is judged by; None: not armed."""


class RewardTransform(Record):
    """From the environment's reward to the one Q-values are in: clip, then scale."""

    clip: float | None = Field(default=None, gt=0)
    """Rewards are clipped to [-clip, clip]."""
    scale: float = Field(default=1.0, gt=0)

    def apply(self, reward: float) -> float:
        """One reward in the units of Q-values."""
        if self.clip is not None:
            reward = min(max(reward, -self.clip), self.clip)
        return reward * self.scale


class Lineage(Fact):
    """Whence the bundle came."""

    created_at: str
    """RFC 3339, UTC."""
    source: str
    """What made it: `training`, `adopt`, `retraining`."""
    environment: str | None = None
    seed: int | None = None
    config: dict[str, object] = Field(default_factory=dict)
    checkpoint_sha256: str | None = None
    dataset_id: str | None = None
    dataset_sha256: str | None = None
    git_revision: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    training_steps: int | None = None


class Parity(Fact):
    """How near the exported graph is to the network it came from."""

    batches: tuple[int, ...]
    max_q_difference: float = Field(ge=0)
    """Largest |q_onnx - q_source| / max(1, |q_source|)."""
    actions_differing: int = Field(ge=0)
    near_ties: int = Field(ge=0)
    """Rows whose two best actions lie closer than the tolerance; only they may differ."""


class Manifest(Fact):
    """Everything a bundle promises."""

    format_version: Literal[1] = 1
    policy: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    version: int = Field(ge=1)
    parent: int | None = None
    """The version this one was trained on from, if any."""
    observation: ObservationSpec
    actions: ActionSpec
    outputs: tuple[str, ...] = (ACTIONS, Q_VALUES)
    num_features: int = Field(default=0, ge=0, le=MAX_FEATURES)
    opset: int
    discount: float = Field(gt=0, le=1)
    n_step: int = Field(default=1, ge=1)
    reward_transform: RewardTransform = RewardTransform()
    q_bound: float | None = Field(default=None, gt=0)
    """Largest |Q| that may be served: what the rewards allow or training met, and a margin."""
    heuristic_behaviour: str
    floor: float | None = None
    """The heuristic's mean return, measured at export."""
    profile: Profile | None = None
    """None: drift and reward alerts are not armed."""
    parity: Parity | None = None
    lineage: Lineage
    sha256: dict[str, str]
    """Of every file of the bundle; `manifest.json` itself is hashed with its entry empty."""

    def check_declaration(self, declaration: PolicyDeclaration) -> None:
        """Raise ManifestError where the bundle disagrees with what the policy declares."""
        for what, found, expected in (
            ("observation", self.observation, declaration.observation),
            ("actions", self.actions, declaration.actions),
        ):
            if found != expected:
                raise ManifestError(
                    f"{self.policy} v{self.version}: {what} is {found!r}, "
                    f"policy.toml declares {expected!r}"
                )


def decode_manifest(content: bytes) -> Manifest:
    """Read `manifest.json`.

    Raises:
        ManifestError: It is not JSON, misses a field, says of observations, actions or rewards what
            this release does not know, or is of another format.
    """
    try:
        document = msgspec.json.decode(content)
        found = document.get("format_version") if isinstance(document, dict) else None
        if found != FORMAT_VERSION:
            raise ManifestError(
                f"manifest.json: format_version {found!r}, this release reads {FORMAT_VERSION}"
            )
        return Manifest.model_validate(document)
    except ValidationError as error:
        raise ManifestError(f"manifest.json: {first_fault(error)}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(f"manifest.json: {error}") from error


def encode_manifest(manifest: Manifest) -> bytes:
    """Write `manifest.json`: two-space JSON, so that a person can read a diff."""
    return msgspec.json.format(manifest.model_dump_json().encode(), indent=2) + b"\n"
