"""From a log and the current policy to one chosen candidate, and its verdict."""

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from retraining.config import RetrainConfig
from retraining.gate import Gate, Verdict
from retraining.importance import returns_spread
from retraining.practice import practise
from retraining.reading import Known, Reading, split_episodes
from retraining.state import run_name
from training.checkpoint import Checkpoint, CheckpointMetadata, write_checkpoint
from training.distributed import Place
from training.network import QNetwork
from training.offline import ALONE, Candidate, choose, learn_candidates
from training.offline_log import LoggedSteps, LogReplay
from training.provenance import git_revision, package_versions

_ROWS_AT_ONCE = 4096


class Found(NamedTuple):
    """What learning came to."""

    candidates: tuple[tuple[float | None, int, float | None], ...]
    """Alpha, updates and lower bound of each: no alpha where it was learned in a model, no bound
    where its estimate cannot be."""
    diverged: dict[str, str]
    """Why runs were stopped, by their names."""
    chosen: tuple[float | None, int] | None
    """Alpha and updates of the one that was written."""


def known_of(checkpoint: Checkpoint, version: int) -> Known:
    """What an honest log of a version looks like."""
    rewards = checkpoint.metadata.statistics.rewards
    return Known(
        version=version,
        network=checkpoint.network,
        lowest_reward=-np.inf if rewards.minimum is None else rewards.minimum,
        highest_reward=np.inf if rewards.maximum is None else rewards.maximum,
        transform=checkpoint.metadata.reward_transform,
    )


def learn_candidate(
    config: RetrainConfig,
    parent: Checkpoint,
    reading: Reading,
    seed: int,
    folder: Path,
    here: Place = ALONE,
) -> Found:
    """Learn from part of the episodes, choose by a lower bound on them, write the checkpoint.

    Of several processes all learn, and the first chooses and writes.

    Raises:
        ValueError: The log has too few episodes, or the policy learns distributions.
    """
    learned_from, _ = _split(config, reading, seed)
    rng = np.random.default_rng([seed, 1])
    discount, offline = parent.metadata.discount, config.offline
    replay = LogReplay(learned_from, offline.n_step, discount, offline.explored_share)
    older = reading.older
    rehearsal = None if older is None else LogReplay(older, offline.n_step, discount)
    q_limit = max(float(np.abs(learned_from.rewards).max()), 1e-6) / (1 - discount)
    unit = returns_spread(learned_from, discount)
    learned = learn_candidates(parent.network, replay, rehearsal, offline, unit, q_limit, rng, here)
    if here.rank > 0:
        return Found((), {}, None)

    gate = Gate(
        learned_from,
        parent.network,
        discount,
        config.fitted,
        config.dynamics,
        config.limits,
        seed=2 * seed,
    )
    candidates, stopped = learned.candidates, learned.diverged
    if gate.plays:
        practised = practise(
            learned_from,
            parent.network,
            discount,
            q_limit,
            config.practice,
            config.dynamics,
            # The gate has a model of its own, which does not err as this one does.
            seed=rng.integers(2**32).item(),
        )
        candidates, stopped = candidates + practised.candidates, stopped | practised.diverged
    diverged = {run_name(alpha): why for alpha, why in stopped.items()}
    if not candidates:
        return Found((), diverged, None)
    bounds = gate.lower_bounds([each.network for each in candidates])
    told = tuple(
        (each.alpha, each.updates, bound if np.isfinite(bound) else None)
        for each, bound in zip(candidates, bounds, strict=True)
    )
    if not np.isfinite(bounds).any():
        return Found(told, diverged, None)
    best = choose(candidates, bounds).candidate
    metadata = _metadata(config, parent.metadata, best, learned_from, seed)
    write_checkpoint(folder, metadata, best.network)
    return Found(told, diverged, (best.alpha, best.updates))


def judge(
    config: RetrainConfig, parent: Checkpoint, candidate: Checkpoint, reading: Reading, seed: int
) -> Verdict:
    """The verdict by episodes that the candidate was neither learned from nor chosen by."""
    _, held_out = _split(config, reading, seed)
    gate = Gate(
        held_out,
        parent.network,
        parent.metadata.discount,
        config.fitted,
        config.dynamics,
        config.limits,
        seed=2 * seed + 1,
    )
    return gate.judge(candidate.network)


def _split(config: RetrainConfig, reading: Reading, seed: int) -> tuple[LoggedSteps, LoggedSteps]:
    # By the cycle's seed alone: learning and judging, days apart, must split alike.
    rng = np.random.default_rng([seed, 0])
    return split_episodes(reading.recent, config.held_out_share, rng)


def _metadata(
    config: RetrainConfig,
    parent: CheckpointMetadata,
    candidate: Candidate,
    log: LoggedSteps,
    seed: int,
) -> CheckpointMetadata:
    before = parent.statistics.absolute_q_values
    largest = max(before.maximum or 0.0, _largest_q(candidate.network, log))
    absolute_q_values = before.model_copy(update={"maximum": largest})
    how = config.practice.learning if candidate.alpha is None else config.offline
    offline = how.model_dump(mode="json") | {"alpha": candidate.alpha}
    return parent.model_copy(
        update={
            "n_step": how.n_step,
            "statistics": parent.statistics.model_copy(
                update={"absolute_q_values": absolute_q_values}
            ),
            "evaluation_return": None,
            "config": parent.config | {"offline": offline},
            "seed": seed,
            "updates": parent.updates + candidate.updates,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": package_versions(),
            "git_revision": git_revision(),
        }
    )


@torch.no_grad()
def _largest_q(network: QNetwork, log: LoggedSteps) -> float:
    return max(
        float(
            network(torch.from_numpy(log.observations[start : start + _ROWS_AT_ONCE])).abs().max()
        )
        for start in range(0, len(log.actions), _ROWS_AT_ONCE)
    )
