"""What an adoption is told."""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt
from pydantic_settings import CliPositionalArg

from exporter.adoption.preparation import ImageLayout
from exporter.adoption.source import Kind
from training.flags import Flags


class AdoptConfig(Flags):
    """Make a policy that another library trained the next version of a policy here.

    Reads Stable-Baselines3's DQN zip, CleanRL's checkpoint and ONNX (d3rlpy's, or any with
    Q-values). What a file does not say of itself is stated with flags, never guessed.
    """

    source: CliPositionalArg[Path]
    """File to adopt."""

    repository: Path
    """Folder of policies; made if it is not there."""

    policy: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    """Name over all versions."""

    kind: Kind | None = None
    """What saved it; told from the content where not set."""

    declaration: Path | None = None
    """TOML file with the labels and the heuristic of a new policy, as `policy.toml` has them; what
    it says of the observation holds before what is found."""

    heuristic: str | None = Field(default=None, pattern=r"^(random|constant:\d+)$")
    """A simple one instead: `random`, or `constant:` and the action that is always safe."""

    allowed_heuristics: tuple[str, ...] = ()
    """Python functions, `module:name`, that a declared heuristic may run here."""

    environment: str | None = None
    """Gymnasium's name of the environment: bounds are read, and profile and floor played in it."""

    samples: Path | None = None
    """An `.npz` of what the policy itself met: observations and, for a profile, rewards, terminated
    and truncated, one step after another."""

    reference: Path | None = None
    """An `.npz` of observations and the q_values that the library itself gives for them: the served
    graph must give the same."""

    vecnormalize: Path | None = None
    """Stable-Baselines3: VecNormalize's statistics, an `.npz`; `none` says that there are none."""

    image_layout: ImageLayout | None = None
    """How agents send one frame of a picture: [height, width], or with its channels."""

    frame_stack: PositiveInt | None = None
    """How many frames the network takes; 1 where agents send what the network takes."""

    first_frames: Literal["repeat", "zeros"] | None = None
    """How training filled the stack at an episode's start; each library's own where not set."""

    q_output: str | None = None
    """ONNX: name of the tensor with the Q-values, where it cannot be told."""

    discount: float | None = Field(default=None, gt=0, le=1)
    """Discount of training; in a Stable-Baselines3 zip it is written."""

    n_step: PositiveInt | None = None
    """Steps of the returns trained on."""

    reward_clip: float | None = Field(default=None, gt=0)
    """Rewards were clipped to plus and minus this in training."""

    reward_scale: float = Field(default=1.0, gt=0)
    """Rewards were then multiplied by this."""

    q_bound: float | None = Field(default=None, gt=0)
    """Largest |Q| that may be served; none where not set, as training's range is not known."""

    profile_episodes: PositiveInt = 100
    """Greedy episodes of the profile."""

    floor_episodes: PositiveInt = 100
    """Episodes over which the heuristic's mean return is measured."""

    seed: int = Field(default=0, ge=0)
    """Seed of the episodes."""
