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

_PACKAGES: Final = ("onnx", "onnxruntime", "onnxscript")
_Q_BOUND_MARGIN: Final = 1.05
_LARGEST_SHARE_BEYOND_BOUND: Final = 0.001
"""Of served rows: where a server's breaker would open."""


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
    """All that holds before anything is measured; profile, floor, parity and hashes come later."""
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
        q_bound=q_bound(metadata),
        heuristic_behaviour=declaration.heuristic.behaviour,
        lineage=_lineage(config, metadata, created_at),
        sha256={},
    )


def q_bound(metadata: CheckpointMetadata) -> float | None:
    """The largest |Q| that the rewards met in training could add up to, with a margin of 5 %.

    None where no reward was met, all were 0, or nothing is discounted: then there is no bound.
    """
    rewards = metadata.statistics.rewards
    if rewards.minimum is None or rewards.maximum is None or metadata.discount >= 1:
        return None
    extremes = (rewards.minimum, rewards.maximum)
    largest_reward = max(abs(metadata.reward_transform.apply(reward)) for reward in extremes)
    return _Q_BOUND_MARGIN * largest_reward / (1 - metadata.discount) or None


def check_q_bound(bound: float | None, q_values: npt.NDArray[np.float32]) -> None:
    """Raise BundleError where a server would answer by heuristic for what the policy itself does.

    Args:
        bound: The manifest's.
        q_values: Of greedy episodes, [N, num_actions].
    """
    if bound is None:
        return
    share = float((np.abs(q_values).max(axis=1) > bound).mean())
    if share > _LARGEST_SHARE_BEYOND_BOUND:
        raise BundleError(
            f"|Q| is beyond {bound:.4g}, the most that rewards and discount allow, in {share:.1%} "
            f"of the observations (up to {np.abs(q_values).max():.4g}): the network overestimates, "
            "and the heuristic would have to answer those"
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
