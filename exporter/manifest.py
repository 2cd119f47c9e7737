"""What an exported version promises: the checkpoint's own facts, as a manifest."""

from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from contract.bundle import BundleError
from contract.declaration import PolicyDeclaration
from contract.manifest import ACTIONS, FEATURES, Q_VALUES, Lineage, Manifest
from exporter.config import ExportConfig
from training.checkpoint import NETWORK_FILE, CheckpointError, CheckpointMetadata

DIVERGED_FACTOR: Final = 3.0
"""Where training, too, gives a run up by default."""

_PACKAGES: Final = ("onnx", "onnxruntime", "onnxscript")
_Q_BOUND_MARGIN: Final = 1.05
_LARGEST_DIVERGED_SHARE: Final = 0.001
"""Of the rows of a profile."""


def make_manifest(
    config: ExportConfig,
    metadata: CheckpointMetadata,
    declaration: PolicyDeclaration,
    *,
    version_number: int,
    opset: int,
    num_features: int,
    created_at: str,
) -> Manifest:
    """All that holds before anything is measured; bounds, profile, floor and hashes come later."""
    return Manifest(
        policy=config.policy,
        version=version_number,
        parent=config.parent,
        observation=declaration.observation,
        actions=declaration.actions,
        outputs=(ACTIONS, Q_VALUES, FEATURES),
        num_features=num_features,
        opset=opset,
        discount=metadata.discount,
        n_step=metadata.n_step,
        reward_transform=metadata.reward_transform,
        heuristic_behaviour=declaration.heuristic.behaviour,
        lineage=_lineage(config, metadata, created_at),
        sha256={},
    )


def largest_possible_q(metadata: CheckpointMetadata) -> float | None:
    """The most that the rewards met in training, for ever, could add up to.

    None where no reward was met, all were 0, or nothing is discounted: then there is no bound.
    """
    rewards = metadata.statistics.rewards
    if rewards.minimum is None or rewards.maximum is None or metadata.discount >= 1:
        return None
    extremes = (rewards.minimum, rewards.maximum)
    largest_reward = max(abs(metadata.reward_transform.apply(reward)) for reward in extremes)
    return largest_reward / (1 - metadata.discount) or None


def q_bound(possible: float | None, met: float) -> float | None:
    """Beyond which |Q| a row is answered by the heuristic.

    A network that overestimates can be a good policy, as only the order of its Q-values is acted
    on; its own measured range must not take it off its traffic.

    Args:
        possible: What rewards and discount allow.
        met: The largest |Q| of training and profile.
    """
    return None if possible is None else _Q_BOUND_MARGIN * max(possible, met)


def check_divergence(possible: float | None, q_values: npt.NDArray[np.float32]) -> None:
    """Raise BundleError where Q-values have left all proportion to what there is to gain.

    Args:
        possible: What rewards and discount allow.
        q_values: Of greedy episodes, [N, num_actions].
    """
    if possible is None:
        return
    largest = np.abs(q_values).max(axis=1)
    share = float((largest > DIVERGED_FACTOR * possible).mean())
    if share > _LARGEST_DIVERGED_SHARE:
        raise BundleError(
            f"the network has diverged: |Q| is up to {largest.max():.4g} and in {share:.1%} of the "
            f"observations beyond {DIVERGED_FACTOR:g} times {possible:.4g}, which is the most that "
            "rewards and discount allow"
        )


def _lineage(config: ExportConfig, metadata: CheckpointMetadata, created_at: str) -> Lineage:
    return Lineage(
        created_at=created_at,
        source=config.source,
        environment=metadata.environment_id,
        seed=metadata.seed,
        config=_without_folders(metadata.config),
        checkpoint_sha256=_hash_network(config),
        dataset_id=config.dataset_id,
        dataset_sha256=config.dataset_sha256,
        git_revision=metadata.git_revision,
        versions=metadata.versions | {name: version(name) for name in _PACKAGES},
        training_steps=metadata.steps,
    )


def _without_folders(training_config: Mapping[str, Any]) -> dict[str, object]:
    """A bundle travels; where a machine kept its checkpoints does not."""
    return {name: value for name, value in training_config.items() if name != "out"}


def _hash_network(config: ExportConfig) -> str:
    path = config.checkpoint / NETWORK_FILE
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
