"""Learning a better policy from a log alone, from the one that wrote it.

Double Q-learning holds on to what the log shows by conservatism, by rehearsing older data and by
penalties for leaving the old policy. How conservative to be, and when to stop, cannot be told from
the loss: many candidates are made, and a lower bound of what each is worth, given by the caller,
chooses among them. The last step of a run has no advantage.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from contract.declaration import Record
from training import schedules
from training.divergence import DivergenceError, check_divergence
from training.learner import flatten_parameters, gather_gradients
from training.losses import huber_loss
from training.network import QNetwork
from training.objective import of_actions
from training.offline_log import LogReplay, OfflineBatch
from training.offline_rules import conservative_gap, legal_double_q_targets, weighted_mean
from training.optimisers import limited
from training.regularisation import (
    Parameters,
    advantage_distance,
    elastic_penalty,
    fisher_diagonal,
    rehearsed_size,
)

Method = Literal["conservative", "plain", "cloning"]


class OfflineConfig(Record):
    """How candidates are learned; steps of the schedule are updates."""

    method: Method = "conservative"
    """`plain` is Double DQN as it is, and `cloning` learns to act as the log does: baselines."""

    alphas: tuple[PositiveFloat, ...] = (0.1, 0.5, 1.0, 4.0)
    """Weights of conservatism (Kumar et al., 2020), a run of updates for each."""

    updates: PositiveInt = 10_000
    """Of each run."""

    candidate_every_updates: PositiveInt = 2_500
    """Updates between candidates."""

    batch_size: PositiveInt = 256
    n_step: PositiveInt = 3
    learning_rate: PositiveFloat = 3e-4
    target_sync_updates: PositiveInt = 500
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


class Candidate(NamedTuple):
    """A policy that may be better, and how it was made."""

    alpha: float
    updates: int
    network: QNetwork


class Learned(NamedTuple):
    """What all runs of a configuration came to."""

    candidates: list[Candidate]
    diverged: dict[float, str]
    """Why a run was stopped, by its alpha; none of its candidates is kept."""


class Chosen(NamedTuple):
    """The candidate with the highest lower bound."""

    candidate: Candidate
    lower_bounds: list[float]
    """Of all candidates, in order."""


class OfflineLearner:
    """Owns the network that learns, its lagging copy and the optimiser."""

    def __init__(
        self, current: QNetwork, alpha: float, config: OfflineConfig, fisher: Parameters | None
    ) -> None:
        if current.head.distribution is not None:
            raise ValueError(
                f"the head learns {current.head.distribution!r}; offline learning is of single "
                "values: train online without a distribution"
            )
        self._alpha = alpha
        self._config = config
        self._current = copy.deepcopy(current).requires_grad_(False).eval()
        self._anchors = dict(self._current.named_parameters())
        self._fisher = fisher
        # Weights only: noisy layers act as their means in a log's regression.
        self.network = copy.deepcopy(current).requires_grad_(True).eval()
        self._target_network = copy.deepcopy(self._current)
        self._parameters = flatten_parameters(self.network)
        self._target_parameters = flatten_parameters(self._target_network)
        self._gradient = gather_gradients(self.network, self._parameters)
        self._optimiser = torch.optim.Adam(
            [self._parameters], lr=config.learning_rate, eps=0.01 / config.batch_size, fused=True
        )
        self.num_updates = 0

    def update(self, fresh: OfflineBatch, old: OfflineBatch | None) -> tuple[Tensor, Tensor]:
        """One gradient step; the loss before it, and the largest |Q| of the batch."""
        progress = self.num_updates / self._config.updates
        loss, largest_q = self._loss(fresh, old, progress)
        self._gradient.zero_()
        loss.backward()  # type: ignore[no-untyped-call]
        self._gradient.copy_(limited(self._gradient, self._config.gradient_norm_limit))
        self._optimiser.step()
        self.num_updates += 1
        if self.num_updates % self._config.target_sync_updates == 0:
            self._target_parameters.copy_(self._parameters.detach())
        return loss.detach(), largest_q

    def _loss(
        self, fresh: OfflineBatch, old: OfflineBatch | None, progress: float
    ) -> tuple[Tensor, Tensor]:
        config = self._config
        batch = fresh if old is None else joined(fresh, old)
        q_values = self.network(batch.observations)
        loss = batch_loss(
            config.method,
            self._alpha,
            q_values,
            batch,
            self.network,
            self._target_network,
        )
        anchor_strength = schedules.cosine(config.anchor_strength, 0.0, progress)
        if old is not None and anchor_strength > 0:
            rehearsed = q_values[len(fresh.actions) :]
            reference = self._current(old.observations)
            loss = loss + anchor_strength * advantage_distance(rehearsed, reference)
        if self._fisher is not None:
            parameters = dict(self.network.named_parameters())
            loss = loss + elastic_penalty(
                parameters, self._anchors, self._fisher, config.elastic_strength
            )
        return loss, q_values.detach().abs().max()


def batch_loss(
    method: Method,
    alpha: float,
    q_values: Tensor,
    batch: OfflineBatch,
    online: Callable[[Tensor], Tensor],
    target: Callable[[Tensor], Tensor],
) -> Tensor:
    """What one batch says, a scalar.

    Every step tells what its action led to, whoever chose it. What to stay close to is only the
    policy's own behaviour: a heuristic's steps do not enter conservatism or cloning.

    Args:
        method: `conservative` is both terms, `plain` the first and `cloning` the second.
        alpha: Weight of conservatism.
        q_values: Of the batch's observations, [N, num_actions].
        batch: N transitions.
        online: Selects next actions; no gradient flows through it here.
        target: Values them.
    """
    gaps = conservative_gap(q_values, batch.behaviour_probabilities, batch.legal_actions)
    gap = weighted_mean(gaps, batch.weights * batch.is_policy)
    if method == "cloning":
        return gap
    with torch.no_grad():
        targets = legal_double_q_targets(
            batch.rewards,
            batch.terminated,
            online(batch.next_observations),
            target(batch.next_observations),
            batch.next_legal_actions,
            batch.discounts,
        )
    predictions = of_actions(q_values.unsqueeze(2), batch.actions).squeeze(1)
    error = weighted_mean(huber_loss(predictions, targets), batch.weights)
    return error if method == "plain" else error + alpha * gap


def joined(fresh: OfflineBatch, old: OfflineBatch) -> OfflineBatch:
    """One batch of both, the fresh transitions first (rehearsal: Robins, 1995)."""
    return OfflineBatch(*(torch.cat(columns) for columns in zip(fresh, old, strict=True)))


def learn(
    current: QNetwork,
    alpha: float,
    replay: LogReplay,
    rehearsal: LogReplay | None,
    config: OfflineConfig,
    q_limit: float,
    rng: np.random.Generator,
) -> Iterator[Candidate]:
    """Learn from a log, giving a candidate at every interval.

    Args:
        current: Where learning begins; it stays as it is.
        alpha: Weight of conservatism.
        replay: The log.
        rehearsal: Older data not to forget.
        config: How.
        q_limit: The largest |Q| that rewards and discount allow.
        rng: Draws batches.

    Raises:
        DivergenceError: The loss is not finite, or |Q| is beyond `q_limit_factor` times its limit.
    """
    fisher = None
    if config.elastic_strength > 0:
        fisher = fisher_diagonal(current, replay.draw(config.batch_size, rng).observations)
    learner = OfflineLearner(current, alpha, config, fisher)
    num_old = 0 if rehearsal is None else rehearsed_size(config.batch_size, config.rehearsed_share)
    # Cloning learns an order of actions, whose scale means nothing.
    limit = np.inf if config.method == "cloning" else config.q_limit_factor * q_limit
    for number in range(1, config.updates + 1):
        old = rehearsal.draw(num_old, rng) if rehearsal is not None and num_old else None
        loss, largest_q = learner.update(replay.draw(config.batch_size - num_old, rng), old)
        is_due = number % config.candidate_every_updates == 0 or number == config.updates
        if is_due or number % config.check_every_updates == 0:
            check_divergence(float(loss), float(largest_q), limit, number)
        if is_due:
            yield Candidate(alpha, number, copy.deepcopy(learner.network).eval())


def learn_candidates(
    current: QNetwork,
    replay: LogReplay,
    rehearsal: LogReplay | None,
    config: OfflineConfig,
    q_limit: float,
    rng: np.random.Generator,
) -> Learned:
    """A run for each alpha; one that diverges leaves no candidate. Arguments as in `learn`."""
    candidates: list[Candidate] = []
    diverged: dict[float, str] = {}
    alphas = config.alphas if config.method == "conservative" else (0.0,)
    for alpha in alphas:
        try:
            candidates += list(learn(current, alpha, replay, rehearsal, config, q_limit, rng))
        except DivergenceError as error:
            diverged[alpha] = str(error)
    return Learned(candidates, diverged)


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
