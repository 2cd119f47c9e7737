"""Whether a candidate may go before live traffic, from the log alone.

The judgement compares a candidate with the current policy, never with a number: what is wrong with
an estimator is mostly wrong with both. What an estimator cannot know it must not pass: values that
no rewards could add up to, a method that misses the returns the log itself shows, or actions that
nobody tried.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from contract.declaration import Record
from retraining.dynamics import DynamicsConfig
from retraining.estimates import Basis, Estimate, Estimator
from retraining.fitted_q import FittedQConfig
from retraining.fitted_values import FittedValues, opinion_on
from retraining.imagined import ImaginedReturns, can_be_imagined, horizon_of, written_by
from retraining.importance import (
    MIN_EFFECTIVE_EPISODES,
    SecondOpinion,
    is_usable,
    whole_episodes,
)
from retraining.policies import policy_of
from training.network import QNetwork
from training.offline_log import LoggedSteps

Decision = Literal["pass", "block", "inconclusive"]
Method = Literal["played in a model", "fitted Q"]

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
    """Values fitted to a bootstrap of fewer episodes cover too little: their spread counts half as
    much again."""
    least_episodes: int = Field(default=50, ge=2)
    """Whole episodes without which nothing is concluded."""


class Evidence(Record):
    """All figures that a judgement is made of, in the unit of rewards as they are learned from."""

    method: Method = "fitted Q"
    """Returns of episodes played in a model are not discounted, fitted values are."""
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
    left_share: float = 0.0
    """Of the candidate's played episodes, those that left what was logged."""
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
    """Judges candidates on one log; what does not depend on them is estimated once.

    Policies are played in a model of the environment where what acted returns in it what the log
    says; elsewhere their values are fitted.

    Args:
        log: N steps.
        current: The policy that is served.
        discount: Per step.
        fitted: How values are fitted.
        dynamics: How a model is learned.
        limits: What candidates are held to.
        seed: Of all draws.

    Raises:
        ValueError: The log has too few whole episodes.
    """

    def __init__(
        self,
        log: LoggedSteps,
        current: QNetwork,
        discount: float,
        fitted: FittedQConfig,
        dynamics: DynamicsConfig,
        limits: GateLimits,
        seed: int,
    ) -> None:
        self._log, self._current, self._discount = log, current, discount
        self._fitted, self._limits, self._seed = fitted, limits, seed
        self._episodes = whole_episodes(log)
        if len(self._episodes) < limits.least_episodes:
            raise ValueError(
                f"the log has {len(self._episodes)} whole episodes, expected at least "
                f"{limits.least_episodes} to judge by"
            )
        self._acts = policy_of(current, log)
        imagined = self._imagine(dynamics)
        self._method: Method = "fitted Q" if imagined is None else "played in a model"
        self._estimator: Estimator = imagined or FittedValues(
            log, self._episodes, current, discount, fitted, seed
        )

    @property
    def plays(self) -> bool:
        """Whether a model of the environment is believed, and candidates are played in it."""
        return self._method == "played in a model"

    @property
    def basis(self) -> Basis:
        """What estimates are held against."""
        return self._estimator.basis

    def lower_bounds(self, candidates: Sequence[QNetwork]) -> list[float]:
        """Of each candidate's advantage; minus infinity for estimates that cannot be."""
        lowest, highest = self.basis.lowest_possible, self.basis.highest_possible
        return [
            self._lower_bound(found) if lowest <= found.value <= highest else -np.inf
            for found in self._estimator.estimate(candidates)
        ]

    def judge(self, candidate: QNetwork) -> Verdict:
        """All figures of one candidate, and what follows from them."""
        (verdict,) = self.judge_all([candidate])
        return verdict

    def judge_all(self, candidates: Sequence[QNetwork]) -> list[Verdict]:
        """The same of several; each verdict is as if it were alone."""
        verdicts = []
        estimates = self._estimator.estimate(candidates)
        for candidate, estimate in zip(candidates, estimates, strict=True):
            evidence = self._gather(candidate, estimate)
            decision, sentence = decide(evidence, self._limits)
            verdicts.append(Verdict(decision=decision, sentence=sentence, evidence=evidence))
        return verdicts

    def _imagine(self, config: DynamicsConfig) -> ImaginedReturns | None:
        """None where no model can be learned, or what acted returns something else in it."""
        log, limits = self._log, self._limits
        if not can_be_imagined(log):
            return None
        own = written_by(log, self._episodes, self._acts)
        if len(own) < limits.least_episodes:
            return None
        horizon = horizon_of(log, self._episodes, self._discount)
        found = ImaginedReturns(log, own, self._current, horizon, config, self._seed)
        return found if found.missed <= _allowed(found.basis, limits) else None

    def _lower_bound(self, estimate: Estimate) -> float:
        is_narrow = len(self._episodes) < self._limits.widened_below_episodes
        widening = 1.5 if is_narrow and self._method == "fitted Q" else 1.0
        return estimate.advantage - widening * _ONE_SIDED_95 * estimate.standard_error

    def _gather(self, candidate: QNetwork, estimate: Estimate) -> Evidence:
        policy = policy_of(candidate, self._log)
        disagreement = float(np.mean(policy.actions != self._acts.actions))
        rows = np.arange(len(policy.actions))
        probabilities = self._log.behaviour_probabilities[rows, policy.actions]
        opinion = self._opinion(candidate, disagreement)
        return Evidence(
            **self.basis._asdict(),
            method=self._method,
            num_episodes=len(self._episodes),
            candidate_estimate=estimate.value,
            advantage=estimate.advantage,
            advantage_lower_bound=self._lower_bound(estimate),
            disagreement=disagreement,
            left_share=estimate.left_share,
            unsupported_share=float(np.mean(probabilities < self._limits.least_propensity)),
            effective_episodes=None if opinion is None else opinion.effective_episodes,
            weighted_importance=None if opinion is None else opinion.weighted,
            doubly_robust=None if opinion is None else opinion.doubly_robust,
        )

    def _opinion(self, candidate: QNetwork, disagreement: float) -> SecondOpinion | None:
        """None where weights are of no use."""
        log, episodes = self._log, self._episodes
        num_actions = log.legal_actions.shape[1]
        epsilon = float(np.median(log.behaviour_probabilities.min(axis=1))) * num_actions
        horizon = len(log.actions) / len(episodes)
        if not is_usable(disagreement, epsilon, num_actions, horizon, len(episodes)):
            return None
        discounts = self._discount, self._discount if self._method == "fitted Q" else 1.0
        found = opinion_on(
            candidate, log, episodes, self._current, discounts, self._fitted, self._seed
        )
        return found if found.effective_episodes >= MIN_EFFECTIVE_EPISODES else None


def decide(evidence: Evidence, limits: GateLimits) -> tuple[Decision, str]:
    """The verdict, in a word and in a sentence. What is not possible is looked at first."""
    spread = evidence.return_range
    figures = (
        f"its advantage is {evidence.advantage:.3g}, at least {evidence.advantage_lower_bound:.3g} "
        f"with 95 % confidence, where logged returns span {spread:.3g} ({evidence.method})"
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
    allowed = _allowed(evidence, limits)
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
                f"the doubly robust estimate is {evidence.doubly_robust:.3g}, the other one "
                f"{evidence.candidate_estimate:.3g}: two methods disagree by {differs:.3g}"
            )
    return "pass", f"the candidate is better than the current policy: {figures}"


def _allowed(found: Basis | Evidence, limits: GateLimits) -> float:
    """By how much the estimate of what acted may miss what the log returned."""
    return max(limits.self_check_share * abs(found.logged_return), 2 * found.logged_standard_error)
