"""Learning a better policy from a log alone, from the one that wrote it.

Double Q-learning holds on to what the log shows by conservatism, by rehearsing older data and by
penalties for leaving the old policy. How conservative to be, and when to stop, cannot be told from
the loss: many candidates are made, and a lower bound of what each is worth, given by the caller,
chooses among them. The last step of a run has no advantage.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from contract.declaration import Record
from training import schedules
from training.distributed import Place
from training.divergence import DivergenceError, check_divergence
from training.network import QNetwork
from training.offline_learner import Method, OfflineLearner, Strengths, Terms
from training.offline_log import OfflineBatch
from training.regularisation import fisher_diagonal, rehearsed_size

ALONE = Place(0, 1)


class OfflineConfig(Record):
    """How candidates are learned; steps of the schedule are updates."""

    method: Method = "conservative"
    """`plain` is Double DQN as it is, and `cloning` learns to act as the log does: baselines."""

    alphas: tuple[PositiveFloat, ...] = (0.01, 0.03, 0.1)
    """Weights of conservatism (Kumar et al., 2020), a run for each, in units of the log's returns.

    An action that makes up one in m of what is drawn must be better by about alpha * m of their
    spread.
    """

    updates: PositiveInt = 2_400
    """Of each run."""

    candidate_updates: tuple[PositiveInt, ...] = (300, 600, 1_200)
    """After which each run gives a candidate, as it does at its end. The first ones are little
    more than one step of policy improvement, and often the best."""

    batch_size: PositiveInt = 128
    n_step: PositiveInt = 1
    """Longer sums carry more noise, in which the few explored actions are lost."""

    explored_share: float = Field(default=0.25, ge=0, lt=1)
    """Of each batch, at least, from steps at which another action than the policy's own was
    taken."""

    learning_rate: PositiveFloat = 1e-3
    """At the beginning; it falls to 0 in a straight line."""

    target_blend: float = Field(default=0.01, gt=0, le=1)
    """Share of the networks that their lagging copies take over at each update."""

    gradient_norm_limit: PositiveFloat = 10.0

    rehearsed_share: float = Field(default=0.25, ge=0, lt=1)
    """Of each batch, from older data where there is any."""

    anchor_strength: float = Field(default=0.1, ge=0)
    """Of keeping the old policy's order of actions on rehearsed states; falls to 0 as a cosine."""

    elastic_strength: float = Field(default=0.0, ge=0)
    """Of elastic weight consolidation, for where no older data may be kept."""

    q_limit_factor: float = Field(default=1.5, ge=1)
    """A run has diverged when |Q| is this many times what rewards and discount allow."""

    check_every_updates: PositiveInt = 100
    """Updates between looks for divergence."""


class Transitions(Protocol):
    """What batches are drawn from."""

    def draw(self, size: int, rng: np.random.Generator) -> OfflineBatch:
        """Draw so many transitions."""


class Candidate(NamedTuple):
    """A policy that may be better, and how it was made."""

    alpha: float | None
    """Weight of conservatism; None where it was learned in a model, which needs none."""
    updates: int
    network: QNetwork


class Learned(NamedTuple):
    """What all runs of a configuration came to."""

    candidates: list[Candidate]
    diverged: dict[float | None, str]
    """Why a run was stopped, by its alpha as of candidates; none of those is kept."""


class Chosen(NamedTuple):
    """The candidate with the highest lower bound."""

    candidate: Candidate
    lower_bounds: list[float]
    """Of all candidates, in order."""


def learn_candidates(
    current: QNetwork,
    replay: Transitions,
    rehearsal: Transitions | None,
    config: OfflineConfig,
    unit: float,
    q_limit: float,
    rng: np.random.Generator,
    here: Place = ALONE,
    tell: Callable[[QNetwork], None] | None = None,
) -> Learned:
    """Learn from a log: a run for each alpha, side by side; one that diverges leaves no candidate.

    Args:
        current: Where learning begins; it stays as it is.
        replay: The log.
        rehearsal: Older data not to forget.
        config: How.
        unit: The spread of returns in the log, in the unit of Q-values.
        q_limit: The largest |Q| that rewards and discount allow.
        rng: Draws batches.
        here: Which of torchrun's processes this is; all of them get the same candidates.
        tell: Told at each look for divergence what the first run has learned, where it has not
            diverged.
    """
    alphas = config.alphas if config.method == "conservative" else (0.0,)
    fisher = None
    if config.elastic_strength > 0:
        fisher = fisher_diagonal(current, replay.draw(config.batch_size, rng).observations)
    terms = Terms(config.method, unit, config.gradient_norm_limit, config.target_blend)
    learner = OfflineLearner(current, alphas, terms, fisher, here)
    num_old = 0 if rehearsal is None else rehearsed_size(config.batch_size, config.rehearsed_share)
    # Cloning learns an order of actions, whose scale means nothing.
    limit = np.inf if config.method == "cloning" else config.q_limit_factor * q_limit

    candidates: list[Candidate] = []
    diverged: dict[float | None, str] = {}
    for number in range(1, config.updates + 1):
        old = rehearsal.draw(num_old, rng) if rehearsal is not None and num_old else None
        fresh = replay.draw(config.batch_size - num_old, rng)
        losses, largest = learner.update(fresh, old, _strengths(config, number - 1))
        is_due = number in config.candidate_updates or number == config.updates
        is_looked_at = number % config.check_every_updates == 0
        if is_due or is_looked_at:
            for run, alpha in enumerate(alphas):
                if alpha not in diverged:
                    why = _divergence(float(losses[run]), float(largest[run]), limit, number)
                    diverged |= {} if why is None else {alpha: why}
        if is_due:
            candidates += [
                Candidate(alpha, number, learner.network(run))
                for run, alpha in enumerate(alphas)
                if alpha not in diverged
            ]
        if len(diverged) == len(alphas):
            break
        if tell is not None and is_looked_at and alphas[0] not in diverged:
            tell(learner.network(0))
    return Learned([each for each in candidates if each.alpha not in diverged], diverged)


def choose(candidates: Sequence[Candidate], lower_bounds: Sequence[float]) -> Chosen:
    """The candidate with the highest lower bound; of equal ones the first, which went least far.

    Raises:
        ValueError: There is none, or none has a finite bound.
    """
    finite = [bound if np.isfinite(bound) else -np.inf for bound in lower_bounds]
    if len(finite) != len(candidates):
        raise ValueError(f"{len(candidates)} candidates have {len(finite)} lower bounds")
    if not finite or max(finite) == -np.inf:
        raise ValueError("no candidate has a finite lower bound")
    return Chosen(candidates[finite.index(max(finite))], list(lower_bounds))


def _strengths(config: OfflineConfig, num_updates: int) -> Strengths:
    progress = num_updates / config.updates
    return Strengths(
        learning_rate=schedules.linear(config.learning_rate, 0.0, progress),
        anchor=schedules.cosine(config.anchor_strength, 0.0, progress),
        elastic=config.elastic_strength,
    )


def _divergence(loss: float, largest_q: float, limit: float, num_updates: int) -> str | None:
    try:
        check_divergence(loss, largest_q, limit, num_updates)
    except DivergenceError as error:
        return str(error)
    return None
