"""Estimates from episodes that are played in a model of the environment.

The model is learned once a log and knows of no candidate: each costs a second. Returns are not
discounted, as those of a canary are not. What acted is played as well, exploring as it did, and has
to return what the log says, or the model is not to be believed.
"""

from collections.abc import Sequence
from math import ceil
from math import log as logarithm

import numpy as np
import numpy.typing as npt
import torch

from retraining.dynamics import Dynamics, DynamicsConfig
from retraining.estimates import Basis, Estimate, possible_returns, range_of
from retraining.fitted_q import Policy
from retraining.rollouts import (
    Act,
    Played,
    exploring,
    greedy,
    mean_and_error,
    play,
    value_beyond,
)
from training.network import QNetwork
from training.offline_log import LoggedSteps

_NEGLIGIBLE = 0.01
"""Share of a reward that the discount leaves after as many steps as an episode may take."""
_LEAST_AGREEMENT = 0.98
"""Share of an episode's steps that prefer what the current policy does, if it was its own."""

Rows = npt.NDArray[np.int64]


class ImaginedReturns:
    """Estimates of one log.

    Args:
        log: N steps with vectors as observations, every action of which is legal.
        own_episodes: Rows of each whole episode that the current policy wrote.
        current: That policy.
        horizon: Most steps of an episode.
        config: How the model is learned and played.
        seed: Of all draws.
    """

    def __init__(
        self,
        log: LoggedSteps,
        own_episodes: list[Rows],
        current: QNetwork,
        horizon: int,
        config: DynamicsConfig,
        seed: int,
    ) -> None:
        rng = np.random.default_rng(seed)
        chosen = rng.permutation(len(own_episodes))[: config.starts]
        episodes = [own_episodes[number] for number in chosen]
        first_rows = [rows[0] for rows in episodes]
        self._firsts = torch.from_numpy(log.observations[first_rows].astype(np.float32))
        self._weights = log.weights[first_rows].astype(np.float64)
        self._horizon = horizon
        self._value_beyond = value_beyond(log, own_episodes, discount=1.0)
        self._dynamics = Dynamics(log, config, seed)
        self._current = self._play(greedy(current))

        epsilons = torch.tensor([_epsilon(log, rows) for rows in episodes])
        explorer = exploring(
            greedy(current),
            epsilons,
            log.legal_actions.shape[1],
            torch.Generator().manual_seed(seed),
        )
        returns = np.array([log.rewards[rows[:horizon]].sum(dtype=np.float64) for rows in episodes])
        behaviour = self._play(explorer).returns @ (self._weights / self._weights.sum())
        lowest, highest = possible_returns(log.rewards, horizon)
        self.basis = Basis(
            logged_return=float(np.average(returns, weights=self._weights)),
            logged_standard_error=float(returns.std(ddof=1) / len(returns) ** 0.5),
            return_range=range_of(returns),
            lowest_possible=lowest,
            highest_possible=highest,
            behaviour_estimate=float(behaviour.mean()),
            current_estimate=self._mean(self._current),
        )
        # Members that guess, one up and one down, would be right on average.
        self.missed = float(np.abs(behaviour - self.basis.logged_return).mean())
        """How far a member is from what the log returned, on average."""

    def estimate(self, candidates: Sequence[QNetwork]) -> list[Estimate]:
        """What candidates would return."""
        found = []
        for candidate in candidates:
            played = self._play(greedy(candidate))
            differences = played.returns - self._current.returns
            advantage, error = mean_and_error(differences, self._weights)
            left = float(played.has_left.mean())
            found.append(Estimate(self._mean(played), advantage, error, left))
        return found

    def _play(self, act: Act) -> Played:
        return play(self._dynamics, act, self._firsts, self._horizon, self._value_beyond)

    def _mean(self, played: Played) -> float:
        return float(np.average(played.returns.mean(axis=0), weights=self._weights))


def can_be_imagined(log: LoggedSteps) -> bool:
    """Whether a model of this log's environment is tried: of frames and of rules none is."""
    return log.observations.ndim == 2 and bool(log.legal_actions.all())


def written_by(log: LoggedSteps, episodes: list[Rows], current: Policy) -> list[Rows]:
    """The episodes in which the current policy acted, exploring or not."""
    preferred = log.behaviour_probabilities.argmax(axis=1)
    agrees = log.is_policy & (preferred == current.actions)
    return [rows for rows in episodes if agrees[rows].mean() >= _LEAST_AGREEMENT]


def horizon_of(log: LoggedSteps, episodes: list[Rows], discount: float) -> int:
    """Most steps of an episode: the limit that the log shows, or what the discount looks ahead.

    A limit shows where the longest episode was cut off.
    """
    longest = max(episodes, key=len)
    if log.truncated[longest[-1]]:
        return len(longest)
    return ceil(logarithm(_NEGLIGIBLE) / logarithm(max(discount, _NEGLIGIBLE)))


def _epsilon(log: LoggedSteps, rows: Rows) -> float:
    """Mean probability of a random action in an episode."""
    probabilities = log.behaviour_probabilities[rows]
    num_actions = probabilities.shape[1]
    others = 1.0 - probabilities.max(axis=1).mean()
    return float(others * num_actions / (num_actions - 1))
