"""What is known of an adopted policy's behaviour, and observations to hold its graph to."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt

from contract.declaration import ObservationSpec, PolicyDeclaration
from contract.manifest import Profile
from exporter.adoption.config import AdoptConfig
from exporter.adoption.source import AdoptionError
from exporter.profile import heuristic_returns, profile_of
from service.inference.policy import Policy
from training.evaluate import Episode, Rollout, play

Observations = npt.NDArray[Any]
From = Literal["environment", "samples", "nothing"]

_BATCH_ROWS: Final = 256
_DRAWN_ROWS: Final = 448
_WIDEST: Final = 10.0
"""Drawn observations stay within this where the declaration sets no nearer bound."""


class Measured(NamedTuple):
    """What was measured, and on what."""

    observations: Observations
    """[N, *shape] in the declared dtype."""
    profile: Profile | None
    floor: float | None
    source: From


def measure(config: AdoptConfig, declaration: PolicyDeclaration, policy: Policy) -> Measured:
    """Profile and floor from the environment or from samples; else neither.

    Raises:
        AdoptionError: The samples do not fit the policy, or the environment does not.
    """
    spec = declaration.observation
    if config.environment is not None and config.samples is not None:
        raise AdoptionError("--environment and --samples: the profile is made from one of them")
    if config.environment is not None:
        return _play(config, config.environment, declaration, policy)
    if config.samples is None:
        return Measured(draw_observations(spec, config.seed), None, None, "nothing")
    return _read_samples(config.samples, spec, policy)


def draw_observations(spec: ObservationSpec, seed: int) -> Observations:
    """Observations anywhere within the declared bounds, [N, *shape]: for parity, not for a profile.

    Bounds that are further away than 10, or infinite, are taken to be there.
    """
    rng = np.random.default_rng(seed)
    if spec.dtype == "uint8":
        return rng.integers(0, 256, (_DRAWN_ROWS, *spec.shape)).astype(np.uint8)
    low, high = (
        np.clip(np.broadcast_to(np.asarray(bound), (spec.size,)), -_WIDEST, _WIDEST)
        for bound in (
            -np.inf if spec.low is None else spec.low,
            np.inf if spec.high is None else spec.high,
        )
    )
    drawn = rng.uniform(low, high, (_DRAWN_ROWS, spec.size)).reshape(-1, *spec.shape)
    return drawn.astype(spec.dtype)


def read_observations(path: Path, spec: ObservationSpec, names: tuple[str, ...]) -> dict[str, Any]:
    """Arrays of one length from an `.npz`: `observations` as declared, and what else is named.

    Raises:
        AdoptionError: An array is missing or has another shape or length, or is not finite.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: np.asarray(archive[name]) for name in names if name in archive}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise AdoptionError(f"{path}: not an .npz of arrays: {error}") from error
    observations = found.get("observations")
    if observations is None or observations.shape[1:] != spec.shape or not len(observations):
        shape = None if observations is None else list(observations.shape)
        raise AdoptionError(f"{path}: observations are {shape}, expected [N, *{list(spec.shape)}]")
    if not np.can_cast(observations.dtype, spec.dtype, casting="same_kind"):
        raise AdoptionError(f"{path}: observations are {observations.dtype}, not {spec.dtype}")
    found["observations"] = observations.astype(spec.dtype)
    for name, array in found.items():
        if len(array) != len(observations) or not np.isfinite(array).all():
            raise AdoptionError(
                f"{path}: {name} has {len(array)} rows for {len(observations)} observations, or is "
                "not finite"
            )
    return found


def in_batches(
    answer: Callable[[Observations], npt.NDArray[np.float32]], observations: Observations
) -> npt.NDArray[np.float32]:
    """Q-values [N, num_actions] of as many observations as there are."""
    parts = [
        answer(observations[start : start + _BATCH_ROWS])
        for start in range(0, len(observations), _BATCH_ROWS)
    ]
    return np.concatenate(parts)


def _play(
    config: AdoptConfig, environment: str, declaration: PolicyDeclaration, policy: Policy
) -> Measured:
    dtype = declaration.observation.dtype

    def q_values_of(observations: Observations) -> npt.NDArray[np.float32]:
        return policy.decide(observations.astype(dtype)).q_values

    try:
        episodes = play(q_values_of, environment, config.profile_episodes, 0.0, config.seed)
        returns = heuristic_returns(
            declaration.heuristic,
            environment,
            declaration.actions.count,
            config.floor_episodes,
            config.seed,
        )
    except gymnasium.error.Error as error:
        raise AdoptionError(f"{environment}: {error}") from error
    rollout = _rollout_of(episodes, dtype)
    profile = profile_of(rollout, rollout.features, None)
    return Measured(rollout.observations, profile, float(returns.mean()), "environment")


def _rollout_of(episodes: list[Episode], dtype: str) -> Rollout:
    """Episodes one after another, without features: a graph of others names none."""
    observations = np.concatenate([each.observations for each in episodes]).astype(dtype)
    return Rollout(
        observations=observations,
        q_values=np.concatenate([each.q_values for each in episodes]),
        features=_no_features(len(observations)),
        actions=np.concatenate([each.actions for each in episodes]),
        rewards=np.concatenate([each.rewards for each in episodes]),
        returns=np.array([each.rewards.sum() for each in episodes], np.float32),
        lengths=np.array([len(each.actions) for each in episodes]),
    )


def _read_samples(path: Path, spec: ObservationSpec, policy: Policy) -> Measured:
    ends = ("terminated", "truncated")
    found = read_observations(path, spec, ("observations", "rewards", *ends))
    observations = found["observations"]
    if "rewards" not in found:
        return Measured(observations, None, None, "samples")
    if not all(name in found for name in ends):
        raise AdoptionError(f"{path}: rewards without terminated and truncated make no returns")
    is_last = (found["terminated"] != 0) | (found["truncated"] != 0)
    last_steps = np.flatnonzero(is_last)
    if not len(last_steps):
        raise AdoptionError(
            f"{path}: not one whole episode, so there is no return to tell falls by"
        )
    # What comes after the last end is an episode that is not whole.
    whole = slice(0, int(last_steps[-1]) + 1)
    starts = np.concatenate(([0], last_steps[:-1] + 1))
    rewards = found["rewards"][whole].astype(np.float32)
    q_values = in_batches(lambda rows: policy.decide(rows).q_values, observations[whole])
    rollout = Rollout(
        observations=observations[whole],
        q_values=q_values,
        features=_no_features(len(rewards)),
        actions=q_values.argmax(axis=1),
        rewards=rewards,
        returns=np.add.reduceat(rewards, starts),
        lengths=np.diff(np.append(starts, whole.stop)),
    )
    return Measured(observations, profile_of(rollout, rollout.features, None), None, "samples")


def _no_features(rows: int) -> npt.NDArray[np.float32]:
    return np.zeros((rows, 0), np.float32)
