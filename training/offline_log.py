"""A log of served decisions as what is learned from: who chose, what was legal, what followed."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


class LoggedSteps(NamedTuple):
    """N logged steps; those of an episode stand together, ascending. One array per field."""

    observations: npt.NDArray[Any]
    """[N, *shape], as they were acted on."""
    actions: npt.NDArray[np.int64]
    rewards: Floats
    """In the unit of Q-values."""
    next_observations: npt.NDArray[Any]
    """[N, *shape]; anything where they are not known."""
    has_next_observations: Flags
    terminated: Flags
    truncated: Flags
    legal_actions: Flags
    """[N, num_actions]."""
    behaviour_probabilities: Floats
    """[N, num_actions]: with which probability who acted chose each action."""
    is_preferred: Flags
    """Whether the action is the one a policy thought best: neither explored nor a heuristic's."""
    is_policy: Flags
    """Whether a learned policy acted, be it by exploring; a heuristic is not one."""
    episodes: npt.NDArray[np.int32]
    """A number for each episode."""
    steps: npt.NDArray[np.int32]
    """Number of the step within its episode."""
    weights: Floats
    """How many episodes each stands for: 1 over the share that is logged."""

    @property
    def can_be_learned_from(self) -> Flags:
        """Whether a temporal-difference target exists, [N]."""
        return self.terminated | self.has_next_observations

    @property
    def is_followed(self) -> Flags:
        """Whether the next row is the next step of the same episode, [N]."""
        followed = np.zeros(len(self.actions), np.bool_)
        followed[:-1] = (self.episodes[1:] == self.episodes[:-1]) & (
            self.steps[1:] == self.steps[:-1] + 1
        )
        return followed & ~self.terminated & ~self.truncated

    def take(self, rows: npt.NDArray[Any]) -> "LoggedSteps":
        """Some rows, by number or by flag."""
        return LoggedSteps(*(column[rows] for column in self))


class OfflineBatch(NamedTuple):
    """N transitions of one or several steps, one tensor per field."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    """Discounted sums, [N]."""
    next_observations: Tensor
    terminated: Tensor
    discounts: Tensor
    """What the value of the next observation is worth now, [N]."""
    legal_actions: Tensor
    next_legal_actions: Tensor
    behaviour_probabilities: Tensor
    """[N, num_actions]."""
    weights: Tensor
    policy_weights: Tensor
    """Of the same rows as steps of a policy: 0 where a heuristic acted."""


def epsilon_greedy_probabilities(
    preferred: npt.NDArray[np.int64], epsilons: Floats, legal_actions: Flags
) -> Floats:
    """Of a policy that explores evenly among the legal actions, [N, num_actions].

    Args:
        preferred: The action it thinks best, [N].
        epsilons: Probability of a random action, [N].
        legal_actions: [N, num_actions].
    """
    even = legal_actions / legal_actions.sum(axis=1, keepdims=True)
    greedy = np.arange(legal_actions.shape[1]) == preferred[:, np.newaxis]
    explored = epsilons[:, np.newaxis]
    probabilities = (1 - explored) * greedy + explored * even
    return np.asarray(probabilities, np.float32)


def n_step_sums(
    rewards: Floats, goes_on: Flags, n_step: int, discount: float
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Discounted sums of up to `n_step` rewards from each row on.

    Args:
        rewards: [N].
        goes_on: Whether a sum that holds this row may take in the next one, [N]; the last may not.
        n_step: Most rewards of one sum.
        discount: Per step.

    Returns:
        The sums, [N], and how many rewards each holds, [N].
    """
    sums = rewards.astype(np.float64)
    spans = np.ones(len(rewards), np.int64)
    rows = np.arange(len(rewards))
    is_open = np.ones(len(rewards), np.bool_)
    for step in range(1, n_step):
        last = np.minimum(rows + step - 1, len(rewards) - 1)
        is_open = is_open & goes_on[last]
        following = np.minimum(rows + step, len(rewards) - 1)
        sums += np.where(is_open, discount**step * rewards[following], 0.0)
        spans += is_open
    return sums.astype(np.float32), spans


def may_go_on(log: LoggedSteps, agrees: Flags) -> Flags:
    """Where a sum of rewards may take in the next row, [N].

    A sum says what a policy earns only as long as the actions after the first are that policy's:
    it stops before the first that is not (Watkins, 1989; for one policy, Precup et al., 2000).

    Args:
        log: N steps.
        agrees: Whether the policy would have acted as the log says, [N].
    """
    goes_on = log.is_followed
    goes_on[:-1] &= (agrees & log.can_be_learned_from)[1:]
    return goes_on


class LogReplay:
    """Transitions of a log; what has no target is never drawn.

    Args:
        log: Where they are from.
        n_step: Most rewards of one sum.
        discount: Per step.
        explored_share: Of what is drawn, at least, from steps at which another action than the
            policy's own was taken. A log of mostly greedy steps holds few of them, and they alone
            tell what the policy's own actions are to be compared with.
    """

    def __init__(
        self, log: LoggedSteps, n_step: int, discount: float, explored_share: float = 0.0
    ) -> None:
        sums, spans = n_step_sums(log.rewards, may_go_on(log, log.is_preferred), n_step, discount)
        last = np.arange(len(sums)) + spans - 1
        next_legal = np.ones_like(log.legal_actions)
        followed = np.flatnonzero(log.is_followed)
        next_legal[followed] = log.legal_actions[followed + 1]

        self._rows = torch.from_numpy(np.flatnonzero(log.can_be_learned_from))
        if len(self._rows) == 0:
            raise ValueError(f"none of {len(sums)} logged steps says what followed it")
        self._explored_share = explored_share
        self._explored = np.flatnonzero(~log.is_preferred[log.can_be_learned_from])
        self._last = torch.from_numpy(last)
        self._observations = torch.from_numpy(log.observations)
        self._next_observations = torch.from_numpy(log.next_observations)
        self._next_legal = torch.from_numpy(next_legal)
        self._terminated = torch.from_numpy(log.terminated)
        self._actions = torch.from_numpy(log.actions)
        self._sums = torch.from_numpy(sums)
        self._discounts = torch.from_numpy((discount**spans).astype(np.float32))
        self._legal = torch.from_numpy(log.legal_actions)
        self._probabilities = torch.from_numpy(log.behaviour_probabilities)
        self._is_policy = torch.from_numpy(log.is_policy)
        self._weights = torch.from_numpy(log.weights)

    def __len__(self) -> int:
        return len(self._rows)

    def draw(self, size: int, rng: np.random.Generator) -> OfflineBatch:
        """Draw transitions with replacement."""
        places = rng.integers(len(self), size=size)
        if len(self._explored):
            num_explored = round(self._explored_share * size)
            places[:num_explored] = rng.choice(self._explored, num_explored)
        return self.batch(torch.from_numpy(places))

    def batch(self, places: Tensor) -> OfflineBatch:
        """The transitions at these places in [0, len)."""
        rows = self._rows[places]
        last = self._last[rows]
        return OfflineBatch(
            observations=self._observations[rows],
            actions=self._actions[rows],
            rewards=self._sums[rows],
            next_observations=self._next_observations[last],
            terminated=self._terminated[last],
            discounts=self._discounts[rows],
            legal_actions=self._legal[rows],
            next_legal_actions=self._next_legal[last],
            behaviour_probabilities=self._probabilities[rows],
            weights=self._weights[rows],
            policy_weights=self._weights[rows] * self._is_policy[rows],
        )
