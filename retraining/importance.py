"""Importance sampling: second opinions that need no model of values, where weights allow them.

Weights are products over an episode; they are useful only for policies that differ little, and
`is_usable` says when. Nothing here judges alone.
"""

from math import log as logarithm
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from training.offline_log import LoggedSteps

MIN_EFFECTIVE_EPISODES = 100.0
Floats = npt.NDArray[np.float64]


class Episodes(NamedTuple):
    """E whole episodes of at most T steps, one array per field, [E, T]; zeros after the end."""

    rewards: Floats
    ratios: Floats
    """Of the policy's probability of the logged action to the log's; 1 after the end."""
    logged_values: Floats
    """Q of the logged action."""
    policy_values: Floats
    """Q of the policy's own action."""


class SecondOpinion(NamedTuple):
    """Two estimates of the mean discounted return, and how many episodes they rest on."""

    weighted: float
    """Weighted per-decision importance sampling (Precup et al., 2000)."""
    doubly_robust: float
    """Weighted doubly robust (Thomas and Brunskill, 2016)."""
    effective_episodes: float
    """(sum of weights)^2 / sum of squared weights (Kish, 1965)."""


def whole_episodes(log: LoggedSteps) -> list[npt.NDArray[np.int64]]:
    """Rows of each episode that is there from its step 0 to its end."""
    if len(log.episodes) == 0:
        return []
    starts = np.flatnonzero(np.diff(log.episodes, prepend=log.episodes[0] - 1))
    followed, ends = log.is_followed, log.terminated | log.truncated
    return [
        rows
        for rows in np.split(np.arange(len(log.episodes)), starts[1:])
        if log.steps[rows[0]] == 0 and followed[rows[:-1]].all() and ends[rows[-1]]
    ]


def discounted_returns(
    log: LoggedSteps, episodes: list[npt.NDArray[np.int64]], discount: float
) -> Floats:
    """Of each episode, [E], in the unit of Q-values."""
    found = [
        float(log.rewards[rows].astype(np.float64) @ discount ** np.arange(len(rows)))
        for rows in episodes
    ]
    return np.asarray(found)


def returns_spread(log: LoggedSteps, discount: float) -> float:
    """Standard deviation of the discounted returns of whole episodes, above 0."""
    returns = discounted_returns(log, whole_episodes(log), discount)
    return max(float(returns.std()), 1e-6) if len(returns) else 1.0


def is_usable(
    disagreement: float, epsilon: float, num_actions: int, horizon: float, num_episodes: int
) -> bool:
    """Whether weights of so long episodes can leave a hundred effective ones.

    The second moment of one step's ratio is (1 - d) / p + d * A / epsilon, where p is the
    probability of a greedy action; that of an episode is its power.

    Args:
        disagreement: Share of steps on which the two policies differ, d.
        epsilon: Probability of a random action in the log.
        num_actions: A.
        horizon: Mean steps of an episode.
        num_episodes: In the log.
    """
    if disagreement > 0 and epsilon <= 0:
        return False
    if num_episodes < MIN_EFFECTIVE_EPISODES:
        return False
    greedy = 1 - epsilon + epsilon / num_actions
    moment = (1 - disagreement) / greedy
    moment += disagreement * num_actions / epsilon if disagreement > 0 else 0.0
    return horizon * logarithm(moment) <= logarithm(num_episodes / MIN_EFFECTIVE_EPISODES)


def pad_episodes(
    log: LoggedSteps,
    episodes: list[npt.NDArray[np.int64]],
    policy_actions: npt.NDArray[np.int64],
    row_values: Floats,
    policy_values: Floats,
) -> Episodes:
    """Episodes side by side; arguments are of all N steps of the log."""
    agrees = policy_actions == log.actions
    rows = np.arange(len(log.actions))
    propensities = log.behaviour_probabilities[rows, log.actions].astype(np.float64)
    ratios = agrees / propensities.clip(min=1e-6)
    columns = [
        (log.rewards, 0.0),
        (ratios, 1.0),
        (row_values, 0.0),
        (policy_values, 0.0),
    ]
    return Episodes(*(_padded(column, episodes, fill) for column, fill in columns))


def second_opinion(episodes: Episodes, discount: float) -> SecondOpinion:
    """Weighted estimates of a policy's mean discounted return.

    sum_t discount^t sum_i [w_t,i (r_t,i - Q(s, a)) + w_(t-1),i V(s)], where w_t,i is the product
    of ratios up to t over its sum over episodes, and 1 / E before the first step. Without Q and V
    it is weighted importance sampling. An episode that ended keeps its weight.
    """
    products = np.cumprod(episodes.ratios, axis=1)
    totals = products.sum(axis=0, keepdims=True)
    weights = np.divide(products, totals, out=np.zeros_like(products), where=totals > 0)
    before = np.concatenate([np.full((len(weights), 1), 1 / len(weights)), weights[:, :-1]], axis=1)
    discounts = discount ** np.arange(weights.shape[1])
    corrected = weights * (episodes.rewards - episodes.logged_values)
    robust = corrected + before * episodes.policy_values
    last = products[:, -1]
    squares = float((last**2).sum())
    return SecondOpinion(
        weighted=float(((weights * episodes.rewards) @ discounts).sum()),
        doubly_robust=float((robust @ discounts).sum()),
        effective_episodes=float(last.sum()) ** 2 / squares if squares > 0 else 0.0,
    )


def _padded(
    column: npt.NDArray[np.floating], episodes: list[npt.NDArray[np.int64]], fill: float
) -> Floats:
    padded = np.full((len(episodes), max(map(len, episodes))), fill, np.float64)
    for number, rows in enumerate(episodes):
        padded[number, : len(rows)] = column[rows]
    return padded
