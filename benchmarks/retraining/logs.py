"""A half-trained policy and the log that it writes."""

import copy
from pathlib import Path
from typing import NamedTuple

import numpy as np

from training.actor import choose_actions, q_function
from training.config import TrainingConfig
from training.environments import Environments, transform_rewards
from training.evaluate import evaluate
from training.network import QNetwork
from training.offline_log import LoggedSteps, epsilon_greedy_probabilities
from training.run import TrainingRun

NUM_ENVIRONMENTS = 8
_LOOK_EVERY_STEPS = {"cartpole": 64, "lunarlander": 960}
"""By preset: of LunarLander's episodes one costs what hundreds of steps of training do."""
_LOOK_EPISODES = 10


class Mediocre(NamedTuple):
    """A policy that was stopped half-way."""

    network: QNetwork
    config: TrainingConfig
    steps: int


def half_trained(preset: str, seed: int, target_return: float, out: Path) -> Mediocre:
    """Train until an evaluation first returns as much as asked, or the preset is done.

    Learning goes by leaps: of the last two looks, the one nearer to what was asked is taken.
    """
    config, look_every = _training_config(preset, seed, out), _LOOK_EVERY_STEPS[preset]
    run = TrainingRun(config)
    looks: list[tuple[float, Mediocre]] = []
    while not run.has_finished:
        run.advance()
        is_due = run.steps >= config.learning_starts and run.steps % look_every == 0
        if not is_due:
            continue
        found = run.evaluate(_LOOK_EPISODES).mean_return
        network = copy.deepcopy(run.learner.online_network).eval()
        looks = [*looks[-1:], (abs(found - target_return), Mediocre(network, config, run.steps))]
        if found >= target_return:
            break
    run.close()
    return min(looks, key=lambda look: look[0])[1]


def snapshots(preset: str, seed: int, steps: int, number: int, out: Path) -> list[QNetwork]:
    """Policies on the way from nothing to `steps` of online training, evenly apart."""
    run = TrainingRun(_training_config(preset, seed, out))
    found: list[QNetwork] = []
    while len(found) < number:
        run.advance()
        if run.steps >= steps * (len(found) + 1) / number:
            found.append(copy.deepcopy(run.learner.online_network).eval())
    run.close()
    return found


def log_of(policy: Mediocre, num_steps: int, epsilon: float, seed: int) -> LoggedSteps:
    """What a service logs while the policy acts, exploring a little; `num_steps` or a few more."""
    rng = np.random.default_rng(seed)
    environments = Environments(policy.config.environment_id, NUM_ENVIRONMENTS, seed)
    q_values_of = q_function(policy.network)
    walked, preferred = [], []
    for _ in range(-(-num_steps // NUM_ENVIRONMENTS)):
        q_values = q_values_of(environments.observations)
        preferred.append(q_values.argmax(axis=1))
        walked.append(environments.step(choose_actions(q_values, epsilon, rng)))
    environments.close()
    # A lane after the other: the steps of an episode stand together.
    columns = [
        np.stack(column, axis=1).reshape(-1, *column[0].shape[1:])
        for column in zip(*walked, strict=True)
    ]
    observations, actions, rewards, following, terminated, truncated = columns
    greedy = np.stack(preferred, axis=1).reshape(-1)
    episodes, steps = _numbered(terminated | truncated, len(walked))
    legal = np.ones((len(actions), policy.network.config.num_actions), np.bool_)
    epsilons = np.full(len(actions), epsilon, np.float32)
    return LoggedSteps(
        observations=observations,
        actions=actions,
        rewards=transform_rewards(rewards, policy.config.reward_transform),
        next_observations=following,
        has_next_observations=np.ones(len(actions), np.bool_),
        terminated=terminated,
        truncated=truncated,
        legal_actions=legal,
        behaviour_probabilities=epsilon_greedy_probabilities(greedy, epsilons, legal),
        is_preferred=actions == greedy,
        is_policy=np.ones(len(actions), np.bool_),
        episodes=episodes,
        steps=steps,
        weights=np.ones(len(actions), np.float32),
    )


def true_return(network: QNetwork, config: TrainingConfig, episodes: int, seed: int) -> float:
    """Mean return of the greedy policy in its environment."""
    found = evaluate(
        q_function(network),
        config.environment_id,
        episodes,
        0.0,
        seed,
        discount=config.discount,
        reward_transform=config.reward_transform,
    )
    return found.mean_return


def _training_config(preset: str, seed: int, out: Path) -> TrainingConfig:
    arguments = ["--preset", preset, "--out", str(out), "--seed", str(seed), "--no-tensorboard"]
    return TrainingConfig.from_arguments([*arguments, "--compile-updates", "never"])


def _numbered(
    ended: np.ndarray[tuple[int], np.dtype[np.bool_]], lane_length: int
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int32]], np.ndarray[tuple[int], np.dtype[np.int32]]]:
    """Number of the episode and of the step within it, of rows lane after lane."""
    rows = np.arange(len(ended))
    begins = rows % lane_length == 0
    begins[1:] |= ended[:-1]
    firsts = np.flatnonzero(begins)
    episodes = np.cumsum(begins) - 1
    steps = rows - firsts[episodes]
    return episodes.astype(np.int32), steps.astype(np.int32)
