"""What an environment does, learned from a log: where an action leads, what it pays, where it ends.

Several networks learn single steps, each from a bootstrap over episodes (Chua et al., 2018), so
that what the log leaves open shows in what they disagree about. Outside the range of what was
logged they would have to guess, and every step says whether it stayed within.
"""

from typing import NamedTuple, Self

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional

from contract.declaration import Record
from retraining.ensemble import Ensemble
from retraining.fitted_q import episode_draws
from training.offline_log import LoggedSteps

_SMALLEST_SPREAD = 1e-6


class DynamicsConfig(Record):
    """How a model of the environment is learned and played."""

    members: int = Field(default=5, ge=2)
    """Bootstraps over episodes, a network each."""
    updates: PositiveInt = 4_000
    batch_size: PositiveInt = 256
    hidden_size: PositiveInt = 64
    learning_rate: PositiveFloat = 2e-3
    """At the beginning; it falls to a fiftieth in a straight line."""
    margin_share: float = Field(default=0.05, ge=0)
    """Of the logged range of each element, by which an observation may be beyond it."""
    starts: int = Field(default=256, ge=2)
    """First observations, at most, that policies are played from."""


class Following(NamedTuple):
    """Where steps lead by each of K members, from B observations."""

    observations: Tensor
    """[K, B, size]."""
    rewards: Tensor
    """[K, B]."""
    terminated: Tensor
    """[K, B]."""
    is_known: Tensor
    """Whether the new observation lies within what was logged, [K, B]."""


class Dynamics:
    """K models of one environment whose observations are vectors.

    Args:
        log: N steps, some of which say what followed.
        config: How to learn.
        seed: Of draws and first weights.

    Raises:
        ValueError: None of them does.
    """

    def __init__(self, log: LoggedSteps, config: DynamicsConfig, seed: int) -> None:
        log = log.take(log.has_next_observations)
        if not len(log.actions):
            raise ValueError("no logged step says what followed it")
        before = torch.from_numpy(log.observations.astype(np.float32))
        after = torch.from_numpy(log.next_observations.astype(np.float32))
        rewards = torch.from_numpy(log.rewards).unsqueeze(1)
        self.members = config.members
        self._num_actions = log.legal_actions.shape[1]
        self._places, self._moves = _Scale.of(before), _Scale.of(after - before)
        self._pay = _Scale.of(rewards)
        both = torch.cat([before, after])
        self._lowest, self._highest = both.amin(dim=0), both.amax(dim=0)
        self._margin = config.margin_share * (self._highest - self._lowest)
        self._lowest_reward, self._highest_reward = rewards.min(), rewards.max()

        generator = torch.Generator().manual_seed(seed)
        size, hidden = before.shape[1], config.hidden_size
        self._step = Ensemble(
            config.members,
            (size + self._num_actions, hidden, hidden, size + 1),
            functional.silu,
            generator,
        )
        self._end = Ensemble(
            config.members, (size, hidden // 2, hidden // 2, 1), functional.silu, generator
        )
        examples = _Examples(
            inputs=self._inputs(before, torch.from_numpy(log.actions)),
            moves_and_pay=torch.cat(
                [self._moves.small(after - before), self._pay.small(rewards)], dim=1
            ),
            places=self._places.small(after),
            terminated=torch.from_numpy(log.terminated),
        )
        rng = np.random.default_rng(seed)
        draws = torch.from_numpy(episode_draws(log, config.members, rng)).float()
        _learn(self._step, self._end, examples, draws, config, rng)

    @torch.no_grad()
    def follow(self, observations: Tensor, actions: Tensor) -> Following:
        """Where actions [K, B] lead from observations [K, B, size]."""
        told = self._step(self._inputs(observations, actions))
        following = observations + self._moves.raw(told[..., :-1])
        rewards = self._pay.raw(told[..., -1:]).squeeze(-1)
        is_within = (following >= self._lowest - self._margin) & (
            following <= self._highest + self._margin
        )
        return Following(
            following,
            rewards.clamp(self._lowest_reward, self._highest_reward),
            self._end(self._places.small(following)).squeeze(-1) > 0,
            is_within.all(dim=-1),
        )

    def _inputs(self, observations: Tensor, actions: Tensor) -> Tensor:
        chosen = functional.one_hot(actions, self._num_actions).float()
        return torch.cat([self._places.small(observations), chosen], dim=-1)


class _Scale(NamedTuple):
    """Mean and spread of each column."""

    mean: Tensor
    spread: Tensor
    """0 where all are alike."""

    @classmethod
    def of(cls, columns: Tensor) -> Self:
        spread = columns.std(dim=0, correction=0)
        varies = spread > _SMALLEST_SPREAD
        # A mean of equal numbers is not always that number.
        return cls(
            torch.where(varies, columns.mean(dim=0), columns[0]),
            torch.where(varies, spread, 0.0),
        )

    def small(self, raw: Tensor) -> Tensor:
        """At mean 0 and spread 1."""
        return (raw - self.mean) / torch.where(self.spread > 0, self.spread, 1.0)

    def raw(self, small: Tensor) -> Tensor:
        """The reverse of `small`."""
        return small * self.spread + self.mean


class _Examples(NamedTuple):
    """N steps to learn from, at mean 0 and spread 1."""

    inputs: Tensor
    moves_and_pay: Tensor
    places: Tensor
    """Where the step led."""
    terminated: Tensor


def _learn(
    step: Ensemble,
    end: Ensemble,
    examples: _Examples,
    draws: Tensor,
    config: DynamicsConfig,
    rng: np.random.Generator,
) -> None:
    """Fit both; `draws` is how often each member has each step, [K, N]."""
    num_steps = len(examples.inputs)
    terminated = examples.terminated.numpy()
    kinds = [
        rows for rows in (np.flatnonzero(terminated), np.flatnonzero(~terminated)) if len(rows)
    ]
    parameters = [*step.parameters, *end.parameters]
    optimiser = torch.optim.Adam(parameters, lr=config.learning_rate, fused=True)
    for number in range(config.updates):
        progress = number / config.updates
        optimiser.param_groups[0]["lr"] = config.learning_rate * (1 - 0.98 * progress)
        drawn = torch.from_numpy(rng.integers(num_steps, size=config.batch_size))
        told = step(examples.inputs[drawn].expand(config.members, -1, -1))
        errors = (told - examples.moves_and_pay[drawn]).square().mean(dim=2)
        loss = (errors * draws[:, drawn]).mean(dim=1).sum()

        # Ends are rare: each kind is half of a batch, and counts by the root of its share.
        size = config.batch_size // len(kinds)
        drawn = torch.from_numpy(np.concatenate([rng.choice(rows, size) for rows in kinds]))
        counts = torch.tensor([len(rows) / num_steps for rows in kinds]).sqrt()
        weights = draws[:, drawn] * counts.repeat_interleave(size)
        told = end(examples.places[drawn].expand(config.members, -1, -1)).squeeze(2)
        wanted = examples.terminated[drawn].float().expand_as(told)
        missed = functional.binary_cross_entropy_with_logits(told, wanted, reduction="none")
        loss = loss + (missed * weights).mean(dim=1).sum()

        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
