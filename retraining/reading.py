"""From a sealed dataset to what is learned from: newest steps, older ones, nothing poisoned."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from contract.manifest import RewardTransform
from recorder.dataset.load import Dataset
from recorder.dataset.manifest import DatasetError
from recorder.dataset.sampling import TransitionSampler
from recorder.dataset.transitions import LoggedTransitions, Part
from training.network import QNetwork
from training.offline_log import LoggedSteps, epsilon_greedy_probabilities

HEURISTIC = "heuristic/"
"""How the name of a heuristic's behaviour begins."""

_REWARD_SLACK = 0.1
_Q_TOLERANCE = 0.02
_DIFFERING_SHARE = 0.05
_ROWS_AT_ONCE = 4096
Flags = npt.NDArray[np.bool_]


class Known(NamedTuple):
    """What an honest log of a policy looks like."""

    version: int
    network: QNetwork
    """Of that version."""
    lowest_reward: float
    highest_reward: float
    """Of one step, in training; as reported."""
    transform: RewardTransform


class Reading(NamedTuple):
    """A dataset as a cycle uses it."""

    recent: LoggedSteps
    older: LoggedSteps | None
    """To rehearse."""
    num_episodes: int
    """Of `recent`, after those were left out that were found suspicious."""
    suspicious: dict[str, int]
    """Episodes left out, by why."""

    @property
    def suspicious_share(self) -> float:
        """Of the episodes that were read; one may be counted for two reasons."""
        found = sum(self.suspicious.values())
        return found / max(found + self.num_episodes, 1)

    @property
    def warning(self) -> str:
        """What is wrong with the log, in a sentence."""
        found = ", ".join(f"{why} {count}" for why, count in self.suspicious.items())
        return (
            f"{self.suspicious_share:.0%} of the episodes do not fit the policy ({found}): "
            "nothing is learned from such a log"
        )


def read_log(dataset: Dataset, known: Known, most_steps: int) -> Reading:
    """The newest steps of a dataset, and half as many older ones.

    Args:
        dataset: What was sealed.
        known: Episodes that do not fit it are left out.
        most_steps: How many of the newest are read; what is in memory follows from it, and not
            from how long the log is.

    Raises:
        DatasetError: Nothing is selected, or observations are not of one shape.
    """
    sampler = newest_parts(dataset, most_steps + most_steps // 2)
    newest = max(0, len(sampler) - most_steps)
    oldest = max(0, newest - most_steps // 2)
    recent, suspicious = _honest(sampler.take(np.arange(newest, len(sampler))), known)
    older = None
    if newest > oldest:
        honest, _ = _honest(sampler.take(np.arange(oldest, newest)), known)
        older = as_steps(honest, dataset.behaviours, known.transform)
    return Reading(
        recent=as_steps(recent, dataset.behaviours, known.transform),
        older=older if older is not None and older.can_be_learned_from.any() else None,
        num_episodes=len(np.unique(recent.episodes)),
        suspicious=suspicious,
    )


def newest_parts(dataset: Dataset, num_steps: int) -> TransitionSampler:
    """The newest parts that hold so many steps together; older ones are never opened.

    Raises:
        DatasetError: Nothing is selected, or observations are not of one shape.
    """
    held_bytes = dataset.max_held_bytes // max(1, len(dataset.manifests))
    opened: list[tuple[Part, Flags]] = []
    found = 0
    for manifest in reversed(dataset.manifests):
        for part, chosen in dataset.opened([manifest], held_bytes):
            opened.insert(0, (part, chosen))
            found += len(part.steps_of(chosen))
        if found >= num_steps:
            break
    if not opened:
        raise DatasetError(f"{dataset.policy}: no episode is selected")
    return TransitionSampler(opened)


def as_steps(
    logged: LoggedTransitions, behaviours: Sequence[str], transform: RewardTransform
) -> LoggedSteps:
    """Logged transitions as what offline learning takes.

    A policy's own Q-values tell what it preferred and so, with epsilon, each action's probability.
    Without them the propensity is believed, and the rest of it is spread evenly.
    """
    rows = np.arange(len(logged.actions))
    propensities = np.nan_to_num(logged.propensities, nan=1.0).clip(0.0, 1.0)
    num_actions = logged.action_masks.shape[1]
    has_q_values = _has_q_values(logged)
    ranked = np.where(logged.action_masks, logged.q_values.astype(np.float32), -np.inf)
    # In half precision near values tie; an action that was likely is the one that was preferred.
    is_likely = ~has_q_values | (propensities > 0.5)
    preferred = np.where(is_likely, logged.actions, ranked.argmax(axis=1))

    given = np.where(has_q_values, logged.epsilons, 0.0).astype(np.float32)
    probabilities = epsilon_greedy_probabilities(preferred, given, logged.action_masks)
    told = ((1.0 - propensities) / max(num_actions - 1, 1))[:, np.newaxis] * logged.action_masks
    told[rows, logged.actions] = propensities
    probabilities[~has_q_values] = told[~has_q_values]

    heuristics = [code for code, name in enumerate(behaviours) if name.startswith(HEURISTIC)]
    acted_by_heuristic = np.isin(logged.behaviours, heuristics)
    clipped = logged.rewards
    if transform.clip is not None:
        clipped = np.clip(clipped, -transform.clip, transform.clip)
    return LoggedSteps(
        observations=logged.observations,
        actions=logged.actions,
        rewards=(clipped * transform.scale).astype(np.float32),
        next_observations=logged.next_observations,
        has_next_observations=logged.has_next_observations,
        terminated=logged.terminated,
        truncated=logged.truncated,
        legal_actions=logged.action_masks,
        behaviour_probabilities=probabilities,
        is_preferred=(preferred == logged.actions) & ~acted_by_heuristic,
        is_policy=~acted_by_heuristic,
        episodes=logged.episodes,
        steps=logged.steps,
        weights=(1 / logged.logged_shares.clip(min=1e-6)).astype(np.float32),
    )


def split_episodes(
    log: LoggedSteps, held_out_share: float, rng: np.random.Generator
) -> tuple[LoggedSteps, LoggedSteps]:
    """Episodes to learn from, and others to judge by."""
    numbers = np.unique(log.episodes)
    num_held_out = round(held_out_share * len(numbers))
    is_held_out = np.isin(log.episodes, rng.permutation(numbers)[:num_held_out])
    return log.take(~is_held_out), log.take(is_held_out)


def suspicions(logged: LoggedTransitions, known: Known) -> dict[str, Flags]:
    """Rows that no honest log of the policy has, by why, [N] each.

    That the version's own network gives other Q-values than the log says tells of observations
    that were altered on their way, or of another policy's records under this one's name.
    """
    observations = logged.observations.reshape(len(logged.actions), -1)
    is_finite = np.isfinite(observations).all(axis=1) & np.isfinite(logged.rewards)
    slack = _REWARD_SLACK * max(
        known.highest_reward - known.lowest_reward, abs(known.highest_reward), 1e-6
    )
    is_beyond = (logged.rewards > known.highest_reward + slack) | (
        logged.rewards < known.lowest_reward - slack
    )
    rows = np.arange(len(logged.actions))
    return {
        "not_finite": ~is_finite,
        "reward_beyond_training": is_finite & is_beyond,
        "illegal_action": ~logged.action_masks[rows, logged.actions],
        "q_values_differ": is_finite & _differs(logged, known),
    }


def _has_q_values(logged: LoggedTransitions) -> Flags:
    return np.asarray(np.isfinite(logged.q_values).all(axis=1), np.bool_)


@torch.no_grad()
def _differs(logged: LoggedTransitions, known: Known) -> Flags:
    differs = np.zeros(len(logged.actions), np.bool_)
    has_q_values = _has_q_values(logged)
    own = np.flatnonzero((logged.versions == known.version) & has_q_values)
    for start in range(0, len(own), _ROWS_AT_ONCE):
        rows = own[start : start + _ROWS_AT_ONCE]
        expected = known.network(torch.from_numpy(logged.observations[rows])).numpy()
        allowed = _Q_TOLERANCE * np.maximum(1.0, np.abs(expected))
        gaps = np.abs(expected - logged.q_values[rows].astype(np.float32))
        differs[rows] = (gaps > allowed).any(axis=1)
    return differs


def _honest(logged: LoggedTransitions, known: Known) -> tuple[LoggedTransitions, dict[str, int]]:
    """Without the episodes that are suspicious; one row is enough, save where values differ."""
    numbers, episode_of, lengths = np.unique(
        logged.episodes, return_inverse=True, return_counts=True
    )
    is_out = np.zeros(len(numbers), np.bool_)
    counts = {}
    for why, flags in suspicions(logged, known).items():
        shares = np.bincount(episode_of, weights=flags, minlength=len(numbers)) / lengths
        limit = _DIFFERING_SHARE if why == "q_values_differ" else 0.0
        counts[why] = int((shares > limit).sum())
        is_out |= shares > limit
    kept = ~is_out[episode_of]
    return LoggedTransitions._make(column[kept] for column in logged), counts
