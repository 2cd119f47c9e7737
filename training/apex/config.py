"""The configuration of a run of Ape-X: that of any run, and how it is spread."""

from typing import Self

from pydantic import Field, PositiveInt, model_validator

from training.config import TrainingConfig


class ApexConfig(TrainingConfig):
    """Train a policy with many actors.

    `num_environments` are those of each actor; `replay_capacity` is that of all shards together.
    Draws are always by priority, and exploration is each actor's own.
    """

    num_actors: int = Field(default=4, ge=1, le=64)
    """Processes that walk environments."""

    num_shards: PositiveInt = 1
    """Processes that hold the replay."""

    steps_per_walk: PositiveInt = 32
    """Steps of each environment that an actor walks before it sends them."""

    actor_epsilon: float = Field(default=0.4, gt=0, lt=1)
    """Probability of a random action of the first actor, which explores most."""

    actor_epsilon_exponent: float = Field(default=7.0, ge=0)
    """How much less the last actor explores."""

    publish_every_updates: PositiveInt = 50
    """Updates between the weights that actors get."""

    keep_ratio: bool = False
    """Let neither actors nor learner run ahead of `steps_between_updates` and
    `updates_per_round`; otherwise each goes as fast as it can."""

    @model_validator(mode="after")
    def _can_be_spread(self) -> Self:
        if self.continue_from is not None:
            raise ValueError("a run of Ape-X begins anew: leave out --continue-from")
        if self.normalise_observations or self.noise_scale is not None:
            raise ValueError(
                "actors neither fit a normalisation together nor draw noise: set "
                "--no-normalise-observations, and no noise scale"
            )
        return self

    @property
    def rows_per_strip(self) -> int:
        """Transitions of a walk."""
        return self.steps_per_walk * self.num_environments

    @property
    def strips_per_shard(self) -> int:
        """Strips that each shard holds, at least two."""
        return max(2, self.replay_capacity // (self.rows_per_strip * self.num_shards))

    def frames_per_strip(self, depth: int) -> int:
        """Frames that a strip has room for: one a transition, its ends, and a fifth for resets."""
        ends = self.num_environments * (2 * depth + self.n_step)
        return self.rows_per_strip + self.rows_per_strip // 5 + ends
