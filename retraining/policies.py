"""Policies by what they would do on a log."""

import numpy as np
import numpy.typing as npt
import torch

from retraining.fitted_q import Policy
from training.network import QNetwork
from training.offline_log import LoggedSteps
from training.offline_rules import legal_q_values

_ROWS_AT_ONCE = 4096


@torch.no_grad()
def policy_of(network: QNetwork, log: LoggedSteps) -> Policy:
    """What a network does on a log; the next step's legal actions are known where it is logged."""
    following = np.ones_like(log.legal_actions)
    followed = np.flatnonzero(log.is_followed)
    following[followed] = log.legal_actions[followed + 1]
    return Policy(
        _greedy_actions(network, log.observations, log.legal_actions),
        _greedy_actions(network, log.next_observations, following),
    )


def as_logged(log: LoggedSteps, otherwise: Policy) -> Policy:
    """Whatever acted, as a policy; where its next action is not logged, another's."""
    next_actions = otherwise.next_actions.copy()
    followed = np.flatnonzero(log.is_followed)
    next_actions[followed] = log.actions[followed + 1]
    return Policy(log.actions, next_actions)


def _greedy_actions(
    network: QNetwork, observations: npt.NDArray[np.generic], legal: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    found = [
        legal_q_values(
            network(torch.from_numpy(observations[start : start + _ROWS_AT_ONCE])),
            torch.from_numpy(legal[start : start + _ROWS_AT_ONCE]),
        ).argmax(dim=1)
        for start in range(0, len(observations), _ROWS_AT_ONCE)
    ]
    return np.asarray(torch.cat(found).numpy(), np.int64)
