"""The configuration of a run: one frozen class, filled from a preset and flags."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator
from pydantic_settings import CliApp

from contract.manifest import RewardTransform
from training.checkpoint import BEST, read_checkpoint
from training.convolutions import ConvolutionKind
from training.distributions import Distribution
from training.flags import Flags as Flags
from training.network import NetworkConfig
from training.preset import read_preset
from training.vectorised import Stepping

MOST_STEPS = 255
"""Of an n-step return; how many a transition spans is stored in a byte."""


class TrainingConfig(Flags):
    """Train a policy online.

    `--resume DIR` goes on with the run in DIR as if it had never stopped; it takes no other flag.
    `--continue-from DIR` begins a run where that in DIR ended: its best network and its settings,
    unless flags or a preset say otherwise, exploring as it did at its end.
    All schedules and intervals count environment steps, over all environments together.
    """

    preset: str | None = None
    """A preset's name, or the path of a TOML file; other flags override what it says."""

    out: Path
    """Folder that receives checkpoints and logs."""

    continue_from: Path | None = None
    """Folder of an earlier run to learn on from; it must stay there while this run goes on."""

    rehearsed_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of each batch that comes from the earlier run's replay (Robins, 1995)."""

    elastic_strength: float = Field(default=0.0, ge=0)
    """How firmly what mattered to the earlier policy is held (Kirkpatrick et al., 2017)."""

    environment_id: str
    """Gymnasium's name of the environment."""

    seed: int = Field(default=0, ge=0)
    """All randomness of the run comes from this."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where updates are computed."""

    threads: PositiveInt = 1
    """Of the process that learns; small networks are bound by calls, and more threads only cost."""

    total_steps: PositiveInt = 50_000
    """Environment steps after which the run ends."""

    num_environments: PositiveInt = 8
    """Environments that are stepped together."""

    stepping: Stepping = "sync"
    """One environment after another, the same in processes that share memory (`async`),
    or in the Atari emulator's own threads (`ale`)."""

    stepping_processes: PositiveInt = 2
    """Processes of `async` stepping."""

    convolutions: ConvolutionKind | None = None
    """Convolutions before the hidden layers, for stacked frames: of Mnih et al. (2015), or the
    residual ones of Espeholt et al. (2018)."""

    hidden_sizes: tuple[PositiveInt, ...] = (128, 128)
    """Widths of the hidden layers."""

    layer_norm: bool = False
    """Normalise each layer before its rectifier (Ba et al., 2016)."""

    dueling: bool = False
    """Split the network into a value and an advantage stream (Wang et al., 2016)."""

    noise_scale: float | None = Field(default=None, gt=0)
    """Give weights factorised noise of this initial scale (Fortunato et al., 2018, take 0.5)."""

    distribution: Distribution | None = None
    """Learn a distribution of returns: {"kind": "categorical", "minimum": …, "maximum": …} (C51;
    Bellemare et al., 2017) or {"kind": "quantiles"} (QR-DQN; Dabney et al., 2018)."""

    double: bool = True
    """Choose next actions with the online network (van Hasselt et al., 2015)."""

    loss: Literal["huber", "mse"] = "huber"
    """Loss of the temporal-difference error; distributions have their own."""

    discount: float = Field(default=0.99, ge=0, lt=1)
    """Weight of a reward that comes one step later."""

    n_step: int = Field(default=1, ge=1, le=MOST_STEPS)
    """Rewards that are added up before the network is asked for the rest (Sutton, 1988)."""

    optimiser: Literal["adam", "rmsprop"] = "adam"
    """How gradients become steps; rmsprop is the centred one of Mnih et al. (2015)."""

    optimiser_epsilon: float = Field(default=1.5e-4, gt=0)
    """Added to the optimiser's denominator; large values damp steps where gradients are small."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """The optimiser's step size at the start."""

    learning_rate_schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the step size changes over the run."""

    final_learning_rate: float = Field(default=0.0, ge=0)
    """The step size at the end, unless constant."""

    gradient_norm_limit: float = Field(default=10.0, gt=0)
    """Gradients with a larger Euclidean norm are scaled down to it."""

    epsilon_schedule: Literal["linear", "exponential"] = "linear"
    """How the probability of a random action falls."""

    initial_epsilon: float = Field(default=1.0, gt=0, le=1)
    """Probability of a random action at the start."""

    final_epsilon: float = Field(default=0.05, gt=0, le=1)
    """Probability of a random action once the schedule has run out."""

    epsilon_steps: PositiveInt = 10_000
    """Length of the epsilon schedule."""

    target_update: Literal["hard", "soft"] = "hard"
    """Copy the online network at intervals, or blend it in at every update."""

    target_sync_steps: PositiveInt = 1_000
    """Steps between hard copies; they happen between rounds of updates."""

    target_blend: float = Field(default=0.005, gt=0, le=1)
    """Share of the online network that a soft update blends in (tau)."""

    reward_clip: float | None = Field(default=None, gt=0)
    """Rewards are clipped to [-clip, clip] for learning."""

    reward_scale: float = Field(default=1.0, gt=0)
    """Rewards are multiplied by this for learning, after the clip."""

    normalise_observations: bool = True
    """Give the network observations of mean 0 and spread 1."""

    normalisation_steps: PositiveInt = 10_000
    """Steps from which mean and spread are fitted; afterwards they stay."""

    replay_capacity: PositiveInt = 50_000
    """Transitions that the replay holds."""

    replay_storage: Literal["transitions", "frames", "compressed_frames"] = "transitions"
    """Keep whole transitions, or each frame of stacked observations once, raw or compressed."""

    prioritised: bool = False
    """Draw transitions the more often the more wrong they were (Schaul et al., 2016)."""

    priority_exponent: float = Field(default=0.6, ge=0, le=1)
    """How much errors matter in drawing: 0 draws evenly (alpha)."""

    initial_priority_correction: float = Field(default=0.4, ge=0, le=1)
    """How much of that bias losses are corrected for, at first; all of it at the end (beta)."""

    learning_starts: PositiveInt = 1_000
    """Steps before the first update."""

    batch_size: PositiveInt = 64
    """Transitions of one update."""

    steps_between_updates: PositiveInt = 8
    """Steps between rounds of updates; a multiple of `num_environments`."""

    updates_per_round: PositiveInt = 8
    """Updates of one round."""

    compile_updates: Literal["auto", "always", "never"] = "auto"
    """Compile the whole update into one function; `auto` does where it saves time."""

    evaluation_every_steps: PositiveInt = 5_000
    """Steps between evaluations, which run in environments of their own."""

    evaluation_episodes: PositiveInt = 20
    """Episodes of one evaluation."""

    evaluation_epsilon: float = Field(default=0.01, ge=0, le=1)
    """Probability of a random action in evaluations."""

    target_return: float | None = None
    """Stop early once an evaluation reaches this mean return and a second, longer one confirms."""

    target_calibration: float | None = Field(default=None, gt=0)
    """With `target_return`: stop early only if max Q at the start is also within this share of the
    discounted return that comes of it; until then `best/` is the truest of those that return
    enough."""

    confirmation_episodes: PositiveInt = 100
    """Episodes of the confirming evaluation."""

    checkpoint_every_steps: PositiveInt = 10_000
    """Steps between writes of `last/`, from which a run can go on."""

    q_limit_factor: float = Field(default=3.0, ge=1)
    """The run has diverged when |Q| is this many times what rewards and discount allow."""

    tensorboard: bool = True
    """Log to TensorBoard as well, where it is installed."""

    @model_validator(mode="after")
    def _rounds_fit(self) -> Self:
        if self.steps_between_updates % self.num_environments:
            raise ValueError(
                f"steps_between_updates is {self.steps_between_updates}, expected a multiple of "
                f"num_environments ({self.num_environments})"
            )
        if self.learning_starts > self.total_steps:
            raise ValueError(
                f"learning_starts is {self.learning_starts}, expected at most total_steps "
                f"({self.total_steps})"
            )
        return self

    @model_validator(mode="after")
    def _something_can_be_kept(self) -> Self:
        if self.continue_from is None and (self.rehearsed_share or self.elastic_strength):
            raise ValueError(
                "there is nothing to rehearse or to hold on to: set --continue-from as well"
            )
        return self

    @model_validator(mode="after")
    def _pixels_are_scaled_once(self) -> Self:
        if self.convolutions is not None and self.normalise_observations:
            raise ValueError(
                "convolutions scale pixels themselves; set --no-normalise-observations"
            )
        return self

    @property
    def num_updates(self) -> int:
        """Updates of a whole run."""
        every = self.steps_between_updates
        num_rounds = -(-self.total_steps // every) - -(-self.learning_starts // every) + 1
        return num_rounds * self.updates_per_round

    @property
    def reward_transform(self) -> RewardTransform:
        """The transform from the environment's rewards to the unit of the Q-values."""
        return RewardTransform(clip=self.reward_clip, scale=self.reward_scale)

    def network(self, observation_shape: tuple[int, ...], num_actions: int) -> NetworkConfig:
        """The network of a run in an environment of this kind."""
        return NetworkConfig(
            observation_shape=observation_shape,
            num_actions=num_actions,
            convolutions=self.convolutions,
            hidden_sizes=self.hidden_sizes,
            layer_norm=self.layer_norm,
            dueling=self.dueling,
            noise_scale=self.noise_scale,
            distribution=self.distribution,
            normalise_observations=self.normalise_observations,
        )

    @classmethod
    def from_arguments(cls, arguments: Sequence[str]) -> Self:
        """Read flags, then the preset that they name, then the run that they continue.

        Raises:
            CheckpointError: There is no run to continue.
            ValueError: A value is out of range, or there is no such preset.
            SystemExit: A flag is unknown (2), or help was asked for (0).
        """
        finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        finder.add_argument("--preset")
        finder.add_argument("--continue-from", type=Path)
        found = finder.parse_known_args(arguments)[0]
        defaults = {} if found.continue_from is None else _settings_to_continue(found.continue_from)
        defaults |= read_preset(found.preset) if found.preset is not None else {}
        return CliApp.run(cls, cli_args=list(arguments), **defaults)


def _settings_to_continue(folder: Path) -> dict[str, Any]:
    settings = dict(read_checkpoint(folder / BEST).metadata.config)
    for own in ("out", "preset", "continue_from", "rehearsed_share", "elastic_strength"):
        settings.pop(own, None)
    # What is known already need not be found by chance again.
    return settings | {"initial_epsilon": settings["final_epsilon"]}
