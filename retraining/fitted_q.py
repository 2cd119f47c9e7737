"""Fitted Q evaluation: what a policy would have returned, from the log of another.

Several policies, each with several members, are one network of batched matrices. Each bootstrap
over episodes (Efron, 1979) is fitted from several first weights, so that what the log leaves open
can be told from what fitting does. Members of the same number see the same episodes, the same
batches and the same first weights, so that policies are compared in pairs and a policy that acts
alike is worth exactly the same.

Targets run on as long as the log acts as the policy would (tree backup, Precup et al., 2000, of a
deterministic policy): what is far away is then learned in a few target updates. One step at a
time, a horizon of a hundred steps takes hundreds.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional

from contract.declaration import Record
from retraining.ensemble import Ensemble
from retraining.inputs import Inputs
from training.losses import bootstrapped
from training.offline_log import LoggedSteps, may_go_on, n_step_sums

_ROWS_AT_ONCE = 4096

Floats = npt.NDArray[np.float64]
Actions = npt.NDArray[np.int64]


class FittedQConfig(Record):
    """How estimates are fitted."""

    draws: int = Field(default=5, ge=2)
    """Bootstraps over episodes."""
    starts: int = Field(default=2, ge=2)
    """First weights that each bootstrap is fitted from."""
    updates: PositiveInt = 6_000
    batch_size: PositiveInt = 256
    hidden_size: PositiveInt = 64
    learning_rate: PositiveFloat = 1e-3
    n_step: PositiveInt = 20
    target_blend: PositiveFloat = 0.01
    """Share of the fitted network that its lagging copy takes over at each update."""


class Policy(NamedTuple):
    """A deterministic policy, by what it does on a log of N steps."""

    actions: Actions
    """On the observations, [N]."""
    next_actions: Actions
    """On the next observations, [N]."""


class Fit(NamedTuple):
    """Estimates of P policies by K members each."""

    values: Floats
    """Mean value of the first observations, [P, starts, draws], in the unit of Q-values,
    discounted."""
    row_values: Floats
    """Of the logged action of each step, mean over members, [P, N]."""
    policy_values: Floats
    """Of the policy's own action at each step, mean over members, [P, N]."""


def episode_draws(log: LoggedSteps, members: int, rng: np.random.Generator) -> Floats:
    """How often each member has each step's episode, [K, N], drawn with replacement."""
    numbers, episode_of = np.unique(log.episodes, return_inverse=True)
    even = np.full(len(numbers), 1 / len(numbers))
    counts = rng.multinomial(len(numbers), even, size=members)
    return np.asarray(counts[:, episode_of] * log.weights, np.float64)


def fit(
    log: LoggedSteps,
    inputs: Inputs,
    policies: list[Policy],
    discount: float,
    scale: float,
    config: FittedQConfig,
    seed: int,
) -> Fit:
    """Fit the values of policies; those of one seed and log are comparable member by member.

    Args:
        log: N steps.
        inputs: Of the same steps.
        policies: Whose values.
        discount: Per step.
        scale: About the largest |value|: errors are measured by it.
        config: How.
        seed: Of draws and first weights.

    Raises:
        ValueError: The log has no first step of an episode, or nothing to learn from.
    """
    rng = np.random.default_rng(seed)
    draws = np.tile(episode_draws(log, config.draws, rng), (config.starts, 1))
    rows = np.flatnonzero(log.can_be_learned_from)
    first_rows = np.flatnonzero(log.steps == 0)
    if not len(rows) or not len(first_rows):
        raise ValueError(
            f"{len(rows)} steps can be learned from, {len(first_rows)} begin an episode: "
            "expected some of each"
        )
    targets = _policy_targets(log, policies, discount, scale, config.n_step)
    hidden = config.hidden_size
    # Members of one number begin alike for every policy.
    network = Ensemble(
        len(draws),
        (inputs.observations.shape[1], hidden, hidden, log.legal_actions.shape[1]),
        functional.relu,
        torch.Generator().manual_seed(seed),
        copies=len(policies),
    )
    # What targets have not reached yet counts as what the log returned, not as nothing.
    horizon = round(1 / (1 - discount)) if discount < 1 else len(rows)
    followed, _ = n_step_sums(log.rewards, log.is_followed, horizon, discount)
    network.begin_at(float(followed.mean()) / scale)
    lagging = [parameter.detach().clone() for parameter in network.parameters]
    optimiser = torch.optim.Adam(network.parameters, lr=config.learning_rate, fused=True)
    weights = torch.from_numpy(draws).float()
    logged_actions = torch.from_numpy(log.actions).expand(len(policies), -1)
    for number in range(config.updates):
        # A falling step size averages out what single batches say.
        optimiser.param_groups[0]["lr"] = config.learning_rate * (1 - 0.9 * number / config.updates)
        drawn = torch.from_numpy(rows[rng.integers(len(rows), size=config.batch_size)])
        wanted = _wanted(network, lagging, inputs, targets, drawn)
        found = network(inputs.observations[drawn].unsqueeze(0))
        predicted = _of(found, logged_actions[:, drawn], len(draws))
        errors = functional.huber_loss(predicted, wanted, reduction="none")
        counted = weights[:, drawn]
        loss = (errors * counted).sum() / counted.sum(dim=1).mean().clamp(min=1e-9)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        with torch.no_grad():
            for slow, fast in zip(lagging, network.parameters, strict=True):
                slow.lerp_(fast, config.target_blend)
    return _estimates(log, inputs, policies, network, draws, config.draws, first_rows, scale)


class _Targets(NamedTuple):
    """What P policies' values are regressed on, [P, N] each save the last."""

    sums: Tensor
    """Of rewards, as far as the log acts as the policy would."""
    lasts: Tensor
    """The last row of each sum."""
    discounts: Tensor
    """Of what follows it."""
    next_actions: Tensor
    """The policy's own, at the next observation of each row."""
    terminated: Tensor
    """[N]."""


def _policy_targets(
    log: LoggedSteps, policies: list[Policy], discount: float, scale: float, n_step: int
) -> _Targets:
    rewards = (log.rewards / scale).astype(np.float32)
    found = [
        n_step_sums(rewards, may_go_on(log, policy.actions == log.actions), n_step, discount)
        for policy in policies
    ]
    spans = np.stack([each for _, each in found])
    return _Targets(
        sums=torch.from_numpy(np.stack([each for each, _ in found])),
        lasts=torch.from_numpy(np.arange(spans.shape[1]) + spans - 1),
        discounts=torch.from_numpy((discount**spans).astype(np.float32)),
        next_actions=torch.from_numpy(np.stack([policy.next_actions for policy in policies])),
        terminated=torch.from_numpy(log.terminated),
    )


@torch.no_grad()
def _wanted(
    network: Ensemble, lagging: list[Tensor], inputs: Inputs, targets: _Targets, drawn: Tensor
) -> Tensor:
    """Targets of drawn rows by the lagging copies, [P, K, B]."""
    last = targets.lasts[:, drawn]
    members = len(lagging[0]) // len(last)
    following = inputs.next_observations[last].repeat_interleave(members, dim=0)
    next_actions = targets.next_actions.gather(1, last)
    return bootstrapped(
        targets.sums[:, drawn].unsqueeze(1),
        targets.terminated[last].unsqueeze(1),
        _of(network(following, lagging), next_actions, members),
        targets.discounts[:, drawn].unsqueeze(1),
    )


def _of(q_values: Tensor, actions: Tensor, members: int) -> Tensor:
    """Of the actions of each policy, [P * K, B, num_actions] and [P, B] to [P, K, B]."""
    num_policies = len(actions)
    split = q_values.view(num_policies, members, *q_values.shape[1:])
    index = actions.view(num_policies, 1, -1, 1).expand(-1, members, -1, 1)
    return split.gather(3, index).squeeze(3)


@torch.no_grad()
def _estimates(
    log: LoggedSteps,
    inputs: Inputs,
    policies: list[Policy],
    network: Ensemble,
    draws: Floats,
    num_draws: int,
    first_rows: npt.NDArray[np.int64],
    scale: float,
) -> Fit:
    members = len(draws)
    own = torch.from_numpy(np.stack([policy.actions for policy in policies]))
    logged = torch.from_numpy(log.actions).expand(len(policies), -1)
    means, logged_means, first_values = [], [], []
    is_first = torch.from_numpy(log.steps == 0)
    for start in range(0, len(log.actions), _ROWS_AT_ONCE):
        places = torch.arange(start, min(start + _ROWS_AT_ONCE, len(log.actions)))
        q_values = network(inputs.observations[places].unsqueeze(0))
        found = _of(q_values, own[:, places], members)
        means.append(found.mean(dim=1))
        logged_means.append(_of(q_values, logged[:, places], members).mean(dim=1))
        first_values.append(found[:, :, is_first[places]])
    firsts = torch.cat(first_values, dim=2).double().numpy()
    counted = draws[:, first_rows]
    values = (firsts * counted).sum(axis=2) / counted.sum(axis=1).clip(min=1e-9)
    return Fit(
        values=values.reshape(len(policies), -1, num_draws) * scale,
        row_values=torch.cat(logged_means, dim=1).double().numpy() * scale,
        policy_values=torch.cat(means, dim=1).double().numpy() * scale,
    )


def standard_error(estimates: Floats) -> float:
    """How far the mean of estimates, [starts, draws], may be from the truth, for all fitting does.

    What the log leaves open is in every estimate alike and no averaging takes it away; what first
    weights do is averaged over all of them: var_log + var_fit / (starts * draws), by analysis of
    variance (Searle, 1971).
    """
    starts, draws = estimates.shape
    fitting = float(estimates.var(axis=0, ddof=1).mean())
    between = float(estimates.mean(axis=0).var(ddof=1))
    log_variance = max(0.0, between - fitting / starts)
    return float(np.sqrt(log_variance + fitting / (starts * draws)))
