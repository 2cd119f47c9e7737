"""Episodes that policies play in a model of their environment.

Policies play from the same first observations against the same members, so that they are compared
in pairs. Where an episode leaves what was logged nobody knows how it goes on: it ends there, with
what the log's worst episodes still returned.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retraining.dynamics import Dynamics
from training.network import QNetwork
from training.offline_log import LoggedSteps

Floats = npt.NDArray[np.float64]
Act = Callable[[Tensor], Tensor]
"""From observations [K, E, size] to actions [K, E]."""
_ILL_QUANTILE = 0.05
"""Of what logged steps still returned: what leaving the log counts."""


class Played(NamedTuple):
    """E episodes against each of K members."""

    returns: Floats
    """Undiscounted, [K, E]."""
    has_left: npt.NDArray[np.bool_]
    """Whether the episode ended for leaving what was logged, [K, E]."""


@torch.no_grad()
def play(
    dynamics: Dynamics, act: Act, first_observations: Tensor, horizon: int, value_beyond: float
) -> Played:
    """Play an episode from each first observation against each member.

    Args:
        dynamics: Model of the environment.
        act: The policy.
        first_observations: [E, size].
        horizon: Most steps of an episode.
        value_beyond: What the rest of an episode counts that leaves what was logged.
    """
    firsts = first_observations.expand(dynamics.members, -1, -1)
    observations = firsts
    returns = torch.zeros(firsts.shape[:2], dtype=torch.float64)
    has_left = torch.zeros(firsts.shape[:2], dtype=torch.bool)
    is_open = torch.ones(firsts.shape[:2], dtype=torch.bool)
    for _ in range(horizon):
        following = dynamics.follow(observations, act(observations))
        returns += torch.where(is_open, following.rewards, 0.0)
        leaves = is_open & ~following.terminated & ~following.is_known
        has_left |= leaves
        returns += torch.where(leaves, value_beyond, 0.0)
        is_open &= ~following.terminated & following.is_known
        if not is_open.any():
            break
        # What is over starts anew and counts no more: numbers stay in range.
        observations = torch.where(is_open.unsqueeze(-1), following.observations, firsts)
    return Played(returns.numpy(), has_left.numpy())


def value_beyond(
    log: LoggedSteps, episodes: Sequence[npt.NDArray[np.int64]], discount: float
) -> float:
    """What the rest of an episode counts that leaves the log: as much as after an ill step of it.

    Args:
        log: N steps.
        episodes: Rows of each of its whole episodes.
        discount: Of what follows, per step.
    """
    remaining: list[float] = []
    for rows in episodes:
        following = 0.0
        for reward in log.rewards[rows][::-1].tolist():
            following = reward + discount * following
            remaining.append(following)
    return float(np.quantile(remaining, _ILL_QUANTILE))


def greedy(network: QNetwork) -> Act:
    """What a network does."""

    def act(observations: Tensor) -> Tensor:
        flat = observations.flatten(0, 1)
        q_values: Tensor = network(flat)
        return q_values.argmax(dim=1).view(observations.shape[:2])

    return act


def exploring(act: Act, epsilons: Tensor, num_actions: int, generator: torch.Generator) -> Act:
    """The same with random actions in between.

    Args:
        act: The policy.
        epsilons: Probability of a random action, for each of E episodes.
        num_actions: Among which is drawn.
        generator: Draws.
    """

    def explore(observations: Tensor) -> Tensor:
        preferred = act(observations)
        explores = torch.rand(preferred.shape, generator=generator) < epsilons
        drawn = torch.randint(num_actions, preferred.shape, generator=generator)
        return torch.where(explores, drawn, preferred)

    return explore


def mean_and_error(differences: Floats, weights: Floats) -> tuple[float, float]:
    """Of paired differences [K, E], with how many episodes each of E stands for.

    Members differ by what the log leaves open, which no averaging takes away; first observations
    were drawn.
    """
    shares = weights / weights.sum()
    by_member = differences @ shares
    mean = float(by_member.mean())
    by_start = differences.mean(axis=0)
    drawn = float(((shares * (by_start - mean)) ** 2).sum())
    return mean, float(np.sqrt(by_member.var(ddof=1) + drawn))
