"""What the join makes of records: transitions to learn from, episodes to judge by."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from contract.records import AnsweredBy

Ending = Literal["terminated", "truncated", "timed_out"]


class Circumstances(NamedTuple):
    """What else was logged of a decision, beside what was seen and done."""

    action_mask: npt.NDArray[np.bool_] | None = None
    """Legal actions, [num_actions]; None where every one was."""
    epsilon: float = 0.0
    """Probability of a random action."""
    tags: dict[str, str] | None = None
    """What an incident is broken down by; never seen by the policy."""
    logged_share: float = 1.0
    """Probability with which the episode was logged at all: it counts for its inverse."""
    salt: str | None = None
    """Of the hash that assigned the episode to a version: the rollout's id; None without one."""


@dataclass(frozen=True)
class Transition:
    """One step of one episode, whole."""

    policy: str
    schema_hash: str
    episode_id: str
    step: int
    observation: npt.NDArray[Any]
    action: int
    reward: float
    next_observation: npt.NDArray[Any] | None
    """None where it is unknown: at a truncation without a final observation, or a time-out."""
    terminated: bool
    truncated: bool
    propensity: float | None
    """Probability with which the action was chosen; None where the agent did not say."""
    answered_by: AnsweredBy
    q_values: npt.NDArray[np.float16] | None
    time: float
    """Unix seconds of the decision."""
    reported_at: float = 0.0
    """Unix seconds of the outcome."""
    circumstances: Circumstances = field(default_factory=Circumstances)
    audit: float | None = None
    """What was reported of the audit metric with the outcome."""


@dataclass(frozen=True)
class Episode:
    """One run of one agent, closed."""

    policy: str
    episode_id: str
    """With `#<n>` behind it for a piece of a task that never ends."""
    ending: Ending
    rewards: tuple[float, ...]
    """Of the steps that were joined, in order."""
    is_complete: bool
    """Every step from 0 to the last one was joined."""
    answered_by: tuple[AnsweredBy, ...]
    """Who acted in the steps that were joined, each once, in the order of their first steps."""
    started_at: float
    """Unix seconds of the first decision."""
    ended_at: float
    """Unix seconds of the last outcome that was joined."""

    @property
    def episode_return(self) -> float:
        """The undiscounted sum of rewards."""
        return float(sum(self.rewards))
