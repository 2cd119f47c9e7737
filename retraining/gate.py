"""Whether a candidate may go before live traffic, from the log alone.

The judgement compares a candidate with the current policy, never with a number: what is wrong with
an estimator is mostly wrong with both. What an estimator cannot know it must not pass: values that
no rewards could add up to, a method that misses the returns the log itself shows, or actions that
nobody tried.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from contract.declaration import Record
from retraining.fitted_q import Fit, FittedQConfig, Policy, fit, standard_error
from retraining.importance import (
    MIN_EFFECTIVE_EPISODES,
    discounted_returns,
    is_usable,
    pad_episodes,
    second_opinion,
    whole_episodes,
)
from retraining.inputs import feature_inputs, observation_inputs
from retraining.policies import as_logged, policy_of
from training.network import QNetwork
from training.offline_log import LoggedSteps

Decision = Literal["pass", "block", "inconclusive"]

_ONE_SIDED_95 = 1.645


class GateLimits(Record):
    """What the gate holds candidates to; shares are of the range of logged returns."""

    tolerated_share: float = Field(default=0.02, ge=0)
    """The lower bound of the advantage may be this far below 0."""
    least_gain_share: float = Field(default=0.005, ge=0)
    """An advantage below it is nothing learned: nothing is shipped."""
    self_check_share: float = Field(default=0.05, ge=0)
    """The estimate of what acted may miss its logged return by this, or by two standard errors."""
    opinion_share: float = Field(default=0.1, ge=0)
    """By which a second opinion may differ."""
    unsupported_share: float = Field(default=0.05, ge=0, le=1)
    """Of steps at which the candidate does what the log hardly ever tried."""
    least_propensity: float = Field(default=0.002, ge=0, le=1)
    """Below it an action counts as not tried."""
    widened_below_episodes: int = Field(default=1_000, ge=0)
    """A bootstrap of fewer episodes covers too little: its spread counts half as much again."""
    least_episodes: int = Field(default=50, ge=2)
    """Whole episodes without which nothing is concluded."""


class Evidence(Record):
    """All figures that a judgement is made of; values are discounted, in the unit of Q-values."""

    num_episodes: int
    """Whole ones."""
    logged_return: float
    logged_standard_error: float
    return_range: float
    lowest_possible: float
    highest_possible: float
    behaviour_estimate: float
    """Of what acted in the log: held against `logged_return`."""
    current_estimate: float
    candidate_estimate: float
    advantage: float
    advantage_lower_bound: float
    """One-sided, 95 %."""
    disagreement: float
    """Share of steps on which candidate and current policy differ."""
    unsupported_share: float
    effective_episodes: float | None
    """None where weights cannot be of use: then there is no second opinion."""
    weighted_importance: float | None
    doubly_robust: float | None


class Verdict(Record):
    """What the gate says of a candidate."""

    decision: Decision
    sentence: str
    evidence: Evidence


class Gate:
    """Judges candidates on one log; the current policy is fitted once, when it is made."""

    def __init__(
        self,
        log: LoggedSteps,
        current: QNetwork,
        discount: float,
        config: FittedQConfig,
        limits: GateLimits,
        seed: int,
    ) -> None:
        self._log, self._discount, self._config = log, discount, config
        self._limits, self._seed = limits, seed
        self._episodes = whole_episodes(log)
        if len(self._episodes) < limits.least_episodes:
            raise ValueError(
                f"the log has {len(self._episodes)} whole episodes, expected at least "
                f"{limits.least_episodes} to judge by"
            )
        self._returns = discounted_returns(log, self._episodes, discount)
        counted = log.weights[[rows[0] for rows in self._episodes]]
        self._logged_return = float(np.average(self._returns, weights=counted))
        self._possible = possible_returns(log.rewards, discount)
        is_vector = log.observations.ndim == 2
        self._inputs = observation_inputs(log) if is_vector else feature_inputs(current, log)
        self._current = policy_of(current, log)
        behaviour = as_logged(log, self._current)
        self._fitted = self._fit([behaviour, self._current])

    @property
    def return_range(self) -> float:
        """What shares are of: the spread of the logged returns, or a tenth of their mean."""
        return max(float(np.ptp(self._returns)), 0.1 * abs(float(self._returns.mean())))

    def lower_bounds(self, candidates: Sequence[QNetwork]) -> list[float]:
        """Of each candidate's advantage; minus infinity for estimates that cannot be."""
        fitted = self._fit([policy_of(candidate, self._log) for candidate in candidates])
        lowest, highest = self._possible
        bounds = []
        for values in fitted.values:
            is_possible = lowest <= values.mean() <= highest
            bound = self._lower_bound(values - self._fitted.values[1])
            bounds.append(bound if is_possible else -np.inf)
        return bounds

    def judge(self, candidate: QNetwork) -> Verdict:
        """All figures of one candidate, and what follows from them."""
        (verdict,) = self.judge_all([candidate])
        return verdict

    def judge_all(self, candidates: Sequence[QNetwork]) -> list[Verdict]:
        """The same of several, which are fitted together; each verdict is as if it were alone."""
        policies = [policy_of(candidate, self._log) for candidate in candidates]
        fitted = self._fit(policies)
        verdicts = []
        for number, policy in enumerate(policies):
            evidence = self._gather(policy, Fit(*(values[number] for values in fitted)))
            decision, sentence = decide(evidence, self._limits)
            verdicts.append(Verdict(decision=decision, sentence=sentence, evidence=evidence))
        return verdicts

    def _fit(self, policies: list[Policy]) -> Fit:
        scale = max(float(np.abs(self._returns).max()), 1e-6)
        return fit(
            self._log, self._inputs, policies, self._discount, scale, self._config, self._seed
        )

    def _lower_bound(self, differences: npt.NDArray[np.float64]) -> float:
        is_narrow = len(self._episodes) < self._limits.widened_below_episodes
        widening = 1.5 if is_narrow else 1.0
        return float(differences.mean()) - widening * _ONE_SIDED_95 * standard_error(differences)

    def _gather(self, policy: Policy, fitted: Fit) -> Evidence:
        """Of one policy, whose fit has lost its first axis."""
        behaviour, current = self._fitted.values
        candidate = fitted.values
        disagreement = float(np.mean(policy.actions != self._current.actions))
        rows = np.arange(len(policy.actions))
        probabilities = self._log.behaviour_probabilities[rows, policy.actions]
        epsilon = float(np.median(self._log.behaviour_probabilities.min(axis=1)))
        epsilon *= self._log.legal_actions.shape[1]
        opinion = None
        horizon = len(self._log.actions) / max(len(self._episodes), 1)
        if is_usable(
            disagreement, epsilon, self._log.legal_actions.shape[1], horizon, len(self._episodes)
        ):
            padded = pad_episodes(
                self._log,
                self._episodes,
                policy.actions,
                fitted.row_values,
                fitted.policy_values,
            )
            found = second_opinion(padded, self._discount)
            opinion = found if found.effective_episodes >= MIN_EFFECTIVE_EPISODES else None
        return Evidence(
            num_episodes=len(self._episodes),
            logged_return=self._logged_return,
            logged_standard_error=float(self._returns.std(ddof=1) / len(self._returns) ** 0.5),
            return_range=self.return_range,
            lowest_possible=self._possible[0],
            highest_possible=self._possible[1],
            behaviour_estimate=float(behaviour.mean()),
            current_estimate=float(current.mean()),
            candidate_estimate=float(candidate.mean()),
            advantage=float((candidate - current).mean()),
            advantage_lower_bound=self._lower_bound(candidate - current),
            disagreement=disagreement,
            unsupported_share=float(np.mean(probabilities < self._limits.least_propensity)),
            effective_episodes=None if opinion is None else opinion.effective_episodes,
            weighted_importance=None if opinion is None else opinion.weighted,
            doubly_robust=None if opinion is None else opinion.doubly_robust,
        )


def decide(evidence: Evidence, limits: GateLimits) -> tuple[Decision, str]:
    """The verdict, in a word and in a sentence. What is not possible is looked at first."""
    spread = evidence.return_range
    figures = (
        f"its advantage is {evidence.advantage:.3g}, at least {evidence.advantage_lower_bound:.3g} "
        f"with 95 % confidence, where logged returns span {spread:.3g}"
    )
    lowest, highest = evidence.lowest_possible, evidence.highest_possible
    estimates = (
        evidence.behaviour_estimate,
        evidence.current_estimate,
        evidence.candidate_estimate,
    )
    if not lowest <= min(estimates) <= max(estimates) <= highest:
        return "block", (
            f"estimates reach from {min(estimates):.3g} to {max(estimates):.3g}, while rewards "
            f"allow returns from {lowest:.3g} to {highest:.3g}: they say nothing"
        )
    missed = abs(evidence.behaviour_estimate - evidence.logged_return)
    allowed = max(
        limits.self_check_share * abs(evidence.logged_return), 2 * evidence.logged_standard_error
    )
    if missed > allowed:
        return "inconclusive", (
            f"the estimate of what acted is {evidence.behaviour_estimate:.3g} and its logged "
            f"return {evidence.logged_return:.3g}: the method misses what is known by "
            f"{missed:.3g}, more than {allowed:.3g}"
        )
    if evidence.advantage_lower_bound < -limits.tolerated_share * spread:
        return "block", f"the candidate may be worse than the current policy: {figures}"
    if evidence.advantage < limits.least_gain_share * spread:
        return "block", f"the candidate has learned nothing worth shipping: {figures}"
    if evidence.unsupported_share > limits.unsupported_share:
        return "inconclusive", (
            f"in {evidence.unsupported_share:.1%} of situations the candidate does what the log "
            f"never tried, more than {limits.unsupported_share:.1%}: {figures}"
        )
    if evidence.doubly_robust is not None:
        differs = abs(evidence.doubly_robust - evidence.candidate_estimate)
        if differs > limits.opinion_share * spread:
            return "inconclusive", (
                f"the doubly robust estimate is {evidence.doubly_robust:.3g}, the fitted one "
                f"{evidence.candidate_estimate:.3g}: two methods disagree by {differs:.3g}"
            )
    return "pass", f"the candidate is better than the current policy: {figures}"


def possible_returns(rewards: npt.NDArray[np.float32], discount: float) -> tuple[float, float]:
    """The lowest and highest discounted return of one step or more, with a margin of 2 %.

    A better policy may live longer than any that was logged, so that only the discount bounds how
    much may come together.
    """
    sums = np.array([1.0, 1 / (1 - discount)])
    lowest = float((float(rewards.min()) * sums).min())
    highest = float((float(rewards.max()) * sums).max())
    # An estimator may err a little at the end of the range, where the best policies are.
    margin = 0.02 * max(abs(lowest), abs(highest))
    return lowest - margin, highest + margin
