"""Estimates by fitted Q evaluation: for frames, masks and whatever a model misses.

Values are discounted. What acted is valued as well, and has to be worth what the log returned, or
the values are not to be believed.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from retraining.estimates import Basis, Estimate, possible_returns, range_of
from retraining.fitted_q import Fit, FittedQConfig, Policy, fit, standard_error
from retraining.importance import SecondOpinion, discounted_returns, pad_episodes, second_opinion
from retraining.inputs import Inputs, feature_inputs, observation_inputs
from retraining.policies import as_logged, policy_of
from training.network import QNetwork
from training.offline_log import LoggedSteps

Rows = npt.NDArray[np.int64]


class FittedValues:
    """Estimates of one log; the current policy is fitted once.

    Args:
        log: N steps.
        episodes: Rows of each whole episode.
        current: The current policy.
        discount: Per step.
        config: How to fit.
        seed: Of draws and first weights.
    """

    def __init__(
        self,
        log: LoggedSteps,
        episodes: list[Rows],
        current: QNetwork,
        discount: float,
        config: FittedQConfig,
        seed: int,
    ) -> None:
        returns = discounted_returns(log, episodes, discount)
        scale = max(float(np.abs(returns).max()), 1e-6)
        inputs = _inputs(log, current)
        self._log = log
        self._fit: Callable[[list[Policy]], Fit] = lambda policies: fit(
            log, inputs, policies, discount, scale, config, seed
        )
        acts = policy_of(current, log)
        behaviour, self._current = self._fit([as_logged(log, acts), acts]).values
        lowest, highest = possible_returns(log.rewards, 1 / (1 - discount))
        counted = log.weights[[rows[0] for rows in episodes]]
        self.basis = Basis(
            logged_return=float(np.average(returns, weights=counted)),
            logged_standard_error=float(returns.std(ddof=1) / len(returns) ** 0.5),
            return_range=range_of(returns),
            lowest_possible=lowest,
            highest_possible=highest,
            behaviour_estimate=float(behaviour.mean()),
            current_estimate=float(self._current.mean()),
        )

    def estimate(self, candidates: Sequence[QNetwork]) -> list[Estimate]:
        """What candidates are worth; they are fitted together, each as if it were alone."""
        fitted = self._fit([policy_of(candidate, self._log) for candidate in candidates])
        return [
            Estimate(
                float(values.mean()),
                float((values - self._current).mean()),
                standard_error(values - self._current),
                0.0,
            )
            for values in fitted.values
        ]


def opinion_on(
    candidate: QNetwork,
    log: LoggedSteps,
    episodes: list[Rows],
    current: QNetwork,
    discounts: tuple[float, float],
    config: FittedQConfig,
    seed: int,
) -> SecondOpinion:
    """By importance sampling, held steady by the candidate's own fitted values.

    Values need not be of the same discount as returns: whatever they are, they add nothing on
    average (Thomas and Brunskill, 2016).

    Args:
        candidate: Whose return.
        log: N steps.
        episodes: Rows of each whole episode.
        current: The current policy.
        discounts: Of fitted values and of returns.
        config: How to fit.
        seed: Of draws and first weights.
    """
    fitted_discount, return_discount = discounts
    scale = max(float(np.abs(discounted_returns(log, episodes, fitted_discount)).max()), 1e-6)
    policy = policy_of(candidate, log)
    found = fit(log, _inputs(log, current), [policy], fitted_discount, scale, config, seed)
    padded = pad_episodes(
        log, episodes, policy.actions, found.row_values[0], found.policy_values[0]
    )
    return second_opinion(padded, return_discount)


def _inputs(log: LoggedSteps, current: QNetwork) -> Inputs:
    return observation_inputs(log) if log.observations.ndim == 2 else feature_inputs(current, log)
